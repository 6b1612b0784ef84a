// Sealing: what a sealed model computes, what its file may hold, what its graph may not.
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cfloat>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "common/error.h"
#include "harness/trace.h"
#include "tests/support.h"
#include "tests/toy_gpt.h"

namespace autoresearch {
namespace {

constexpr int64_t kRows = 3, kLen = 24, kVocab = 53;

class Folder {
 public:
  Folder() { mkdtemp(name_); }
  ~Folder() { fs::remove_all(name_); }
  fs::path operator/(const char* file) const { return fs::path(name_) / file; }

 private:
  char name_[32] = "/tmp/seal_test_XXXXXX";
};

SealedModel sealed(const Logits& logits) { return trace(logits, kRows, kLen, kVocab, at::kCPU); }

at::Tensor random_ids() { return at::randint(0, kVocab, {kRows, kLen}, at::kLong); }

ToyGpt toy() { return ToyGpt(kVocab, kLen, 32, 2, 2); }

// The refusal of a graph whose body computes %x from %ids and %c0, a (3, 24, 53) float tensor.
std::string refusal(const std::string& body) {
  SealedModel model;
  model.graph = "graph(%ids : Tensor, %c0 : Tensor):\n" + body + "  return (%x)\n";
  model.tensors = {at::ones({kRows, kLen, kVocab})};
  model.rows = kRows, model.seq_len = kLen, model.vocab_size = kVocab;
  return error_of([&] {
    Graph graph{model};
    graph(random_ids());
  });
}

// The refusal of a function that was traced for real.
std::string refusal_of(const Logits& logits) {
  return error_of([&] {
    Graph graph{sealed(logits)};
    graph(random_ids());
  });
}

void expect_round_trip(ToyGpt model) {
  const Folder folder;
  const at::NoGradGuard no_grad;
  save_sealed(sealed([&](at::Tensor ids) { return model(ids); }), folder / "m");
  const Graph graph(load_sealed(folder / "m", at::kCPU));
  for (int i = 0; i < 3; i++) {
    const at::Tensor ids = random_ids(), live = model(ids), again = graph(ids);
    EXPECT_LE((live - again).abs().max().item<double>(), 1e-6);
    EXPECT_GT(live.std().item<double>(), 0.1) << "a constant model would show nothing";
  }
}

TEST(Seal, AFloat32ModelComputesTheSameAfterARoundTripThroughAFile) { expect_round_trip(toy()); }

TEST(Seal, AModelUnderBfloat16AutocastComputesTheSameAfterARoundTrip) {
  ToyGpt model = toy();
  model.autocast = true;
  expect_round_trip(model);
}

TEST(Seal, TheCallersAutocastDoesNotReachTheGraph) {
  const at::NoGradGuard no_grad;
  const ToyGpt model = toy();
  const Graph graph(sealed([&](at::Tensor ids) { return model(ids); }));
  const at::Tensor ids = random_ids(), expected = graph(ids);
  at::autocast::set_autocast_enabled(at::kCPU, true);
  const at::Tensor found = graph(ids);
  at::autocast::set_autocast_enabled(at::kCPU, false);
  EXPECT_TRUE(at::equal(expected, found));
}

TEST(Seal, ScalarsSurviveBitForBit) {
  const at::NoGradGuard no_grad;
  const at::Tensor table = at::randn({kVocab, kVocab}, at::kDouble);
  for (const double s : {15.0, 1e-10, 8.156554524902461, 0.1, double(0.1f), 1.0 / 3, DBL_MIN, 1e300,
                         -0.0, 123456789012345678.0, -2.772484153217685}) {
    const auto logits = [&](at::Tensor ids) { return at::embedding(table, ids) * 1e-3 * s + s; };
    const at::Tensor ids = random_ids();
    EXPECT_TRUE(at::equal(Graph(sealed(logits))(ids), logits(ids))) << s;
  }
  for (const double limit : {INFINITY, -INFINITY}) {
    const auto logits = [&](at::Tensor ids) {
      const at::Tensor x = at::embedding(table, ids);
      return at::softmax(x.masked_fill(x.abs() > 3, -std::abs(limit)), -1)
          .clamp_max(std::abs(limit));
    };
    const at::Tensor ids = random_ids();
    EXPECT_TRUE(at::equal(Graph(sealed(logits))(ids), logits(ids)));
  }
}

TEST(Seal, NumbersThatTextCantHoldAreRefused) {
  for (const double s : {5e-324, double(NAN)})
    EXPECT_NE(refusal_of([&](at::Tensor ids) {
                return at::one_hot(ids, kVocab).to(at::kFloat).nan_to_num(s);
              }).find("as a constant"),
              std::string::npos);
}

TEST(Seal, ConstantsOfOneElementKeepTheirTypeAndValue) {
  const at::NoGradGuard no_grad;
  const at::Tensor table = at::randn({kVocab, kVocab});
  const at::Tensor zero_d = at::scalar_tensor(0.1, at::kDouble),
                   one = at::full({1}, 0.7).to(at::kBFloat16);
  const auto logits = [&](at::Tensor ids) { return at::embedding(table, ids) * zero_d + one; };
  const Folder folder;
  save_sealed(sealed(logits), folder / "m");
  const at::Tensor ids = random_ids();
  EXPECT_TRUE(at::equal(Graph(load_sealed(folder / "m", at::kCPU))(ids), logits(ids)));
}

TEST(Seal, TiedWeightsAreStoredOnce) {
  const at::NoGradGuard no_grad;
  const at::Tensor table = at::randn({kVocab, 8});
  const at::Tensor handle = table.detach();  // another handle of the same memory
  const SealedModel model =
      sealed([&](at::Tensor ids) { return at::linear(at::embedding(table, ids), handle); });
  EXPECT_EQ(model.tensors.size(), 1u);
}

TEST(Seal, AParameterThatRequiresGradIsNamedAsTheCause) {
  const at::Tensor table = at::randn({kVocab, kVocab}).requires_grad_();
  EXPECT_NE(refusal_of([&](at::Tensor ids) {
              return at::embedding(table, ids);
            }).find("requires gradients"),
            std::string::npos);
  EXPECT_EQ(refusal_of([&](at::Tensor ids) { return at::embedding(table.variable_data(), ids); }),
            "");
}

TEST(Seal, AnExceptionInTheModelIsOneLineAndOutOfMemoryPassesThrough) {
  const std::string message = refusal_of([](at::Tensor ids) {
    return at::matmul(ids, at::ones({5, 5}));
  });
  EXPECT_NE(message.find("can't be traced"), std::string::npos) << message;
  EXPECT_EQ(message.find('\n'), std::string::npos);
  EXPECT_THROW(sealed([](at::Tensor) -> at::Tensor { throw c10::OutOfMemoryError({}, ""); }),
               c10::OutOfMemoryError);
}

TEST(Seal, LogitsOfAnotherShapeAreRefusedWithBothShapes) {
  const std::string message =
      refusal_of([](at::Tensor ids) { return at::one_hot(ids, kVocab + 1).to(at::kFloat); });
  EXPECT_NE(message.find("[3, 24, 54]"), std::string::npos) << message;
  EXPECT_NE(message.find("[3, 24, 53]"), std::string::npos) << message;
}

// ------------------------------------------------------------------------------------------------
// The allow-list

void expect_refused(const std::string& name, const std::string& message,
                    const std::string& advice = "") {
  EXPECT_NE(message.find(name), std::string::npos) << name << " -> " << message;
  EXPECT_NE(message.find(advice), std::string::npos) << name << " -> " << message;
}

TEST(AllowList, HandWrittenGraphsWithForbiddenOperatorsAreRefusedByName) {
  const std::string none = "  %n : NoneType = prim::Constant()\n",
                    i0 = "  %i : int = prim::Constant[value=0]()\n";
  EXPECT_EQ(refusal("  %x : Tensor = aten::exp(%c0)\n"), "") << "the frame itself must be fine";
  expect_refused("aten::from_file",
                 refusal(none + "  %s : str = prim::Constant[value=\"/etc/passwd\"]()\n"
                                "  %x : Tensor = aten::from_file(%s, %n, %n, %n, %n, %n, %n)\n"),
                 "files");
  expect_refused("aten::save", refusal("  %s : str = prim::Constant[value=\"/tmp/x\"]()\n"
                                       "  aten::save(%c0, %s)\n  %x : Tensor = aten::exp(%c0)\n"));
  expect_refused("aten::as_strided",
                 refusal(i0 + none +
                         "  %l : int[] = prim::ListConstruct(%i)\n"
                         "  %x : Tensor = aten::as_strided(%c0, %l, %l, %n)\n"),
                 "view, slice");
  expect_refused("aten::zero_", refusal("  %x : Tensor = aten::zero_(%c0)\n"), "in place");
  expect_refused("aten::exp_", refusal("  %x : Tensor = aten::exp_(%c0)\n"), "at::exp(x");
  expect_refused("aten::exp", refusal("  %x : Tensor = aten::exp(%c0, %c0)\n"), "its argument");
  expect_refused("aten::rand_like",
                 refusal(none + "  %x : Tensor = aten::rand_like(%c0, %n, %n, %n, %n, %n)\n"),
                 "random");
  expect_refused("aten::bernoulli", refusal(none + "  %x : Tensor = aten::bernoulli(%c0, %n)\n"),
                 "random");
  expect_refused("aten::empty_like",
                 refusal(none + "  %x : Tensor = aten::empty_like(%c0, %n, %n, %n, %n, %n)\n"),
                 "uninitialized");
  expect_refused("aten::set_", refusal("  %x : Tensor = aten::set_(%c0, %ids)\n"));
  expect_refused("aten::resize_", refusal(i0 + none +
                                          "  %l : int[] = prim::ListConstruct(%i)\n"
                                          "  %x : Tensor = aten::resize_(%c0, %l, %n)\n"));
  expect_refused("prim::Print", refusal("  prim::Print(%c0)\n  %x : Tensor = aten::exp(%c0)\n"));
  expect_refused("prim::PythonOp", refusal("  %x : Tensor = prim::PythonOp(%c0)\n"));
  expect_refused("nonsense::op", refusal("  %x : Tensor = nonsense::op(%c0)\n"));
}

TEST(AllowList, SubBlocksAreRefused) {
  const std::string b = "  %b : bool = prim::Constant[value=1]()\n";
  expect_refused("prim::If",
                 refusal(b + "  %x : Tensor = prim::If(%b)\n    block0():\n      -> (%c0)\n"
                             "    block1():\n      -> (%c0)\n"),
                 "at::where");
  expect_refused("prim::Loop", refusal(b + "  %i : int = prim::Constant[value=9]()\n"
                                           "  %x : Tensor = prim::Loop(%i, %b, %c0)\n    block0(%k "
                                           ": int, %y : Tensor):\n      -> (%b, %y)\n"));
}

TEST(AllowList, TracedFunctionsWithForbiddenOperatorsAreRefusedByName) {
  const at::Tensor table = at::randn({kVocab, kVocab});
  const auto embed = [&](const at::Tensor& ids) { return at::embedding(table, ids); };
  EXPECT_EQ(refusal_of(embed), "");
  expect_refused("aten::add_", refusal_of([&](at::Tensor ids) { return embed(ids).add_(1); }),
                 "at::add(x");
  expect_refused("aten::copy_", refusal_of([&](at::Tensor ids) {
                   at::Tensor x = embed(ids) * 2;
                   x.select(1, 0).copy_(x.select(1, 1));
                   return x;
                 }));
  expect_refused("aten::randn",
                 refusal_of([&](at::Tensor ids) { return embed(ids) + at::randn({kVocab}); }),
                 "random");
  expect_refused("aten::dropout",
                 refusal_of([&](at::Tensor ids) { return at::dropout(embed(ids), 0.1, true); }));
  expect_refused("dropout_p", refusal_of([&](at::Tensor ids) {
                   const at::Tensor x = embed(ids).unsqueeze(1);
                   return at::scaled_dot_product_attention(x, x, x, {}, 0.5, true).squeeze(1);
                 }),
                 "random");
  expect_refused("aten::mul", refusal_of([&](at::Tensor ids) {
                   at::Tensor out = at::zeros({kRows, kLen, kVocab}), x = embed(ids);
                   at::mul_out(out, x, x);
                   return out;
                 }));
  expect_refused("non_blocking",
                 refusal_of([&](at::Tensor ids) { return embed(ids).to(at::kDouble, true); }));
}

TEST(AllowList, OperatorsThatAnExperimentMayNeedAreAllowed) {
  const at::Tensor table = at::randn({kVocab, kVocab}), square = at::randn({kVocab, kVocab});
  const at::Tensor kernel = at::randn({kVocab, 1, 4});
  const std::vector<Logits> experiments = {
      [&](at::Tensor ids) {
        return at::silu(at::embedding(table, ids)) *
               at::sigmoid(at::matmul(at::embedding(table, ids), square));
      },
      [&](at::Tensor ids) {  // a short causal convolution over time
        const at::Tensor x = at::constant_pad_nd(at::embedding(table, ids).transpose(1, 2), {3, 0});
        return at::conv1d(x, kernel, {}, 1, at::IntArrayRef{0}, 1, kVocab).transpose(1, 2);
      },
      [&](at::Tensor ids) {  // a top-2 mixture of experts, computed densely
        const at::Tensor x = at::embedding(table, ids), gate = at::softmax(x.slice(2, 0, 4), -1);
        const auto [value, index] = gate.topk(2);
        const at::Tensor weight = at::zeros_like(gate).scatter(-1, index, value);
        return at::einsum("btd,ed,bte->btd", {x, square.slice(0, 0, 4), weight});
      },
      [&](at::Tensor ids) {  // hashed bigrams
        const at::Tensor before =
            at::cat({at::zeros({ids.size(0), 1}, at::kLong), ids.slice(1, 0, -1)}, 1);
        return at::embedding(table, (before * 31).bitwise_xor(ids).remainder(kVocab));
      },
      [&](at::Tensor ids) {
        at::Tensor x = at::embedding(table, ids), mask = at::ones({kLen, kLen}, at::kBool).tril();
        x = at::where(mask, at::baddbmm(at::zeros({1, kLen, kLen}), x, x.transpose(1, 2)),
                      -INFINITY);
        return at::bmm(at::log_softmax(x, -1).exp(), at::gelu(at::embedding(table, ids), "tanh"));
      },
      [&](at::Tensor ids) {
        return at::layer_norm(at::embedding(table, ids).cumsum(1), {kVocab}).clamp(-3, 3);
      },
      [&](at::Tensor ids) {
        return at::softplus(at::embedding(table, ids)).pow(0.5) -
               at::embedding(table, ids).logsumexp(-1, true);
      },
  };
  for (const Logits& logits : experiments) EXPECT_EQ(refusal_of(logits), "");
}

TEST(AllowList, ValuesOfAnotherTypeThanStatedAreAnError) {
  EXPECT_NE(refusal("  %x : Tensor = prim::Constant[value=7]()\n"), "");
  EXPECT_NE(
      refusal(
          "  %l : int[] = prim::ListConstruct(%c0, %ids)\n  %x : Tensor = aten::view(%c0, %l)\n"),
      "");
  EXPECT_NE(
      refusal("  %i : float = prim::Constant[value=\"x\"]()\n  %x : Tensor = aten::pow(%c0, %i)\n"),
      "");
  EXPECT_NE(refusal("  %x : Tensor = prim::Constant[value=<Tensor>]()\n"), "");
  EXPECT_NE(refusal("  %x : Tensor = prim::Constant[value={3}]()\n"), "");
  EXPECT_NE(refusal("  %x : int = prim::Constant[value=3]()\n"), "");
  EXPECT_NE(refusal("  %x : " + std::string(100000, '(')), "");
}

TEST(AllowList, TypesAndBracketsNestedWithoutEndAreAnErrorNotACrash) {
  for (const char* piece : {"[]", "?", "[]?", "[ ]\n ", "("}) {
    std::string text;
    while (text.size() < 4'000'000) text += piece;
    EXPECT_NE(refusal("  %x : Tensor" + text + " = aten::exp(%c0)\n").find("nested"),
              std::string::npos);
  }
}

TEST(AllowList, AnAttentionBackendThatTrustsItsCallersShapesIsRefused) {
  const std::string head =
      "  %n : NoneType = prim::Constant()\n  %p : float = prim::Constant[value=0.]()\n"
      "  %b : bool = prim::Constant[value=0]()\n";
  expect_refused(
      "_scaled_dot_product_flash_attention_for_cpu",
      refusal(
          head +
          "  %x : Tensor, %y : Tensor = "
          "aten::_scaled_dot_product_flash_attention_for_cpu(%c0, %c0, %c0, %p, %b, %n, %n)\n"));
}

// A call by hand: the text of its arguments names these values.
std::string refusal_of_call(const std::string& name, const std::string& arguments) {
  return refusal(
      "  %n : NoneType = prim::Constant()\n  %off : bool = prim::Constant[value=0]()\n"
      "  %on : bool = prim::Constant[value=1]()\n  %zero : float = prim::Constant[value=0.]()\n"
      "  %minus : int = prim::Constant[value=-1]()\n  %f32 : int = prim::Constant[value=6]()\n"
      "  %quint8 : int = prim::Constant[value=13]()\n  %c64 : int = prim::Constant[value=9]()\n"
      "  %1 : int = prim::Constant[value=1]()\n"
      "  %2 : int = prim::Constant[value=2]()\n  %3 : int = prim::Constant[value=3]()\n"
      "  %24 : int = prim::Constant[value=24]()\n  %53 : int = prim::Constant[value=53]()\n"
      "  %huge : int = prim::Constant[value=4611686018427387904]()\n"
      "  %sizes : int[] = prim::ListConstruct(%3, %24, %53)\n"
      "  %less : int[] = prim::ListConstruct(%minus, %3)\n"
      "  %far : int[] = prim::ListConstruct(%huge)\n"
      "  %circular : str = prim::Constant[value=\"circular\"]()\n"
      "  %constant : str = prim::Constant[value=\"constant\"]()\n"
      "  %short : Tensor = aten::slice(%c0, %2, %n, %53, %2)\n"
      "  %fewer : Tensor = aten::slice(%c0, %1, %n, %24, %2)\n"
      "  %x : Tensor = aten::" +
      name + "(" + arguments + ")\n");
}

TEST(AllowList, ConstantsThatLibtorchTrustsAreChecked) {
  EXPECT_EQ(refusal_of_call("zeros", "%sizes, %f32, %n, %n, %off"), "");
  expect_refused("aten::zeros", refusal_of_call("zeros", "%sizes, %minus, %n, %n, %n"), "dtype");
  expect_refused("aten::zeros", refusal_of_call("zeros", "%sizes, %quint8, %n, %n, %n"), "dtype");
  expect_refused("aten::to", refusal_of_call("to", "%c0, %c64, %off, %off, %n"), "dtype");
  expect_refused("aten::zeros", refusal_of_call("zeros", "%sizes, %f32, %2, %n, %n"), "layout");
  expect_refused("aten::clone", refusal_of_call("clone", "%c0, %2"), "memory format");
  expect_refused("aten::zeros", refusal_of_call("zeros", "%sizes, %f32, %n, %n, %on"),
                 "pin_memory");
  expect_refused("aten::roll", refusal_of_call("roll", "%c0, %far, %far"), "2^31");
}

TEST(AllowList, ShapesThatAKernelTrustsAreChecked) {
  const std::string rest = ", %n, %zero, %off, %n, %off",
                    attention = "scaled_dot_product_attention";
  EXPECT_EQ(refusal_of_call(attention, "%c0, %c0, %c0" + rest), "");
  expect_refused("as many keys", refusal_of_call(attention, "%c0, %fewer, %c0" + rest));
  expect_refused("of one size", refusal_of_call(attention, "%c0, %short, %c0" + rest));
  expect_refused("mask",
                 refusal_of_call(attention, "%c0, %c0, %c0, %short, %zero, %off, %n, %off"));
  expect_refused("_weight_norm", refusal_of_call("_weight_norm", "%c0, %c0, %2"));
  expect_refused("constant", refusal_of_call("pad", "%c0, %less, %circular, %n"));
}

// An operator takes whatever the values are when it runs, not what the text says of their types.
TEST(AllowList, AValueOfAnotherTypeThanTheOperatorTakesIsRefused) {
  const std::string mixed =
      "  %i : int = prim::Constant[value=3]()\n  %l : int[] = prim::ListConstruct(%i)\n"
      "  %a : Tensor = prim::ListUnpack(%l)\n  %x : Tensor = aten::exp(%a)\n";
  expect_refused("aten::exp", refusal(mixed), "another type");
}

TEST(Output, WritingToTheLogitsDoesNotReachTheNextCall) {
  SealedModel model{"graph(%ids : Tensor, %c0 : Tensor):\n  return (%c0)\n",
                    {at::ones({kRows, kLen, kVocab})},
                    kRows,
                    kLen,
                    kVocab,
                    at::kCPU};
  const Graph graph(model);
  const c10::InferenceMode inference;
  graph(random_ids()).zero_();
  EXPECT_EQ(graph(random_ids()).min().item<float>(), 1);
}

TEST(Output, LogitsThatAreNotFiniteDenseOrFloatingAreRefused) {
  const std::string one = "  %n : NoneType = prim::Constant()\n";
  expect_refused("finite",
                 refusal(one + "  %z : Tensor = aten::zeros_like(%c0, %n, %n, %n, %n, %n)\n"
                               "  %x : Tensor = aten::log(%z)\n"));
  expect_refused("finite",
                 refusal(one + "  %z : Tensor = aten::zeros_like(%c0, %n, %n, %n, %n, %n)\n"
                               "  %x : Tensor = aten::div(%z, %z)\n"));
  expect_refused("floating", refusal("  %x : Tensor = aten::isfinite(%c0)\n"));
  expect_refused("shape", refusal(one + "  %x : Tensor = aten::sum(%c0, %n)\n"));
}

TEST(Output, OneInfiniteLogitInBfloat16IsFound) {
  const at::Tensor table = at::randn({kVocab, kVocab}).to(at::kBFloat16);
  const auto logits = [&](at::Tensor ids) {
    const at::Tensor x = at::embedding(table, ids), position = at::arange(kLen).unsqueeze(1);
    return at::where((position == 7).logical_and(at::arange(kVocab) == 9), -INFINITY, x);
  };
  expect_refused("finite", refusal_of(logits));
}

TEST(Output, TheGraphTakesOnlyTheShapeThatWasTraced) {
  const ToyGpt model = toy();
  const Graph graph(sealed([&](at::Tensor ids) { return model(ids); }));
  EXPECT_THROW(graph(at::zeros({kRows, kLen + 1}, at::kLong)), Error);
  EXPECT_THROW(graph(at::zeros({kRows, kLen}, at::kInt)), Error);
}

// ------------------------------------------------------------------------------------------------
// The file

struct SealedFile {
  Folder folder;
  fs::path path = folder / "m";
  std::string bytes;

  SealedFile() {
    const ToyGpt model(kVocab, kLen, 16, 1, 1);
    save_sealed(sealed([&](at::Tensor ids) { return model(ids); }), path);
    bytes = read_file(path);
  }
  nlohmann::json header() const {
    uint64_t size = 0;
    std::memcpy(&size, bytes.data(), 8);
    return nlohmann::json::parse(bytes.substr(8, size));
  }
  std::string data() const {
    uint64_t size = 0;
    std::memcpy(&size, bytes.data(), 8);
    return bytes.substr(8 + size);
  }
  // What loading says of a file with this header and data.
  std::string load(const std::string& header, const std::string& data) const {
    const uint64_t size = header.size();
    write_file(path, std::string(reinterpret_cast<const char*>(&size), 8) + header + data);
    return error_of([&] { load_sealed(path, at::kCPU); });
  }
};

TEST(File, EveryLieInTheHeaderIsAnError) {
  const SealedFile file;
  const std::string data = file.data();
  ASSERT_EQ(file.load(file.header().dump(), data), "");
  const auto edited = [&](const std::function<void(nlohmann::json&)>& edit) {
    nlohmann::json header = file.header();
    edit(header);
    return file.load(header.dump(), data);
  };
  EXPECT_NE(edited([](auto& h) { h["c0"]["dtype"] = "F8"; }), "");
  EXPECT_NE(edited([](auto& h) { h["c0"]["dtype"] = 7; }), "");
  EXPECT_NE(edited([](auto& h) { h["c0"]["shape"] = {-1, -1}; }), "");
  EXPECT_NE(edited([](auto& h) { h["c0"]["shape"] = {4294967296, 4294967296}; }), "");
  EXPECT_NE(edited([](auto& h) { h["c0"]["shape"] = {1.5}; }), "");
  EXPECT_NE(edited([](auto& h) { h["c0"]["shape"][0] = 52; }), "");
  EXPECT_NE(edited([](auto& h) { h["c0"]["data_offsets"] = {8, 1 << 30}; }), "");
  EXPECT_NE(edited([](auto& h) { h["c0"]["data_offsets"] = {16, 8}; }), "");
  EXPECT_NE(edited([](auto& h) { h["c1"]["data_offsets"] = h["c0"]["data_offsets"]; }), "");
  EXPECT_NE(edited([](auto& h) { h["c0"]["extra"] = 1; }), "");
  EXPECT_NE(edited([](auto& h) { h.erase("c0"); }), "");
  EXPECT_NE(edited([](auto& h) { h["d0"] = h["c0"]; }), "");
  EXPECT_NE(edited([](auto& h) { h.erase("__metadata__"); }), "");
  EXPECT_NE(edited([](auto& h) { h["__metadata__"]["rows"] = "0"; }), "");
  EXPECT_NE(edited([](auto& h) { h["__metadata__"]["rows"] = "3x"; }), "");
  EXPECT_NE(edited([](auto& h) { h["__metadata__"]["seq_len"] = "99999999999999999999"; }), "");
  EXPECT_NE(edited([](auto& h) { h["__metadata__"]["format"] = "pt"; }), "");
  EXPECT_NE(edited([](auto& h) { h["__metadata__"]["device"] = "cuda"; }).find("--device cuda"),
            std::string::npos);
}

TEST(File, HolesTailsDepthAndHugeHeadersAreErrors) {
  const SealedFile file;
  const std::string header = file.header().dump(), data = file.data();
  EXPECT_NE(file.load(header, data + "x"), "");
  EXPECT_NE(file.load(header, data.substr(1)), "");
  EXPECT_NE(file.load(std::string(1 << 20, '['), data), "");
  EXPECT_NE(file.load("{\"a\":" + std::string(1 << 20, '['), data), "");
  EXPECT_NE(file.load("[]", ""), "");
  EXPECT_NE(file.load("{}", ""), "");
  write_file(file.path, std::string(8, '\xff') + header);
  EXPECT_NE(error_of([&] { load_sealed(file.path, at::kCPU); }), "");
  write_file(file.path, "");
  EXPECT_NE(error_of([&] { load_sealed(file.path, at::kCPU); }), "");
  EXPECT_NE(error_of([&] { load_sealed(file.folder / "none", at::kCPU); }), "");
  EXPECT_NE(error_of([&] { load_sealed("/dev/zero", at::kCPU); }), "");
}

TEST(File, ABoolThatIsNeitherTrueNorFalseIsAnError) {
  const Folder folder;
  SealedModel model = sealed([](at::Tensor ids) {
    return at::one_hot(ids, kVocab).to(at::kFloat) * at::ones({kVocab}, at::kBool);
  });
  model.tensors = {at::ones({5}, at::kBool)};
  save_sealed(model, folder / "m");
  std::string bytes = read_file(folder / "m");
  EXPECT_NO_THROW(load_sealed(folder / "m", at::kCPU));
  bytes.back() = 2;
  write_file(folder / "m", bytes);
  EXPECT_THROW(load_sealed(folder / "m", at::kCPU), Error);
}

// A damaged file is refused, or holds other numbers; it never ends the process. Half of the damage
// is aimed at the header, where the structure is.
TEST(File, TwoThousandRandomDamagesNeverCrash) {
  const SealedFile file;
  const at::Tensor ids = random_ids();
  uint64_t header = 0;
  std::memcpy(&header, file.bytes.data(), 8);
  std::mt19937 random(7);
  const auto below = [&](size_t n) {
    return std::uniform_int_distribution<size_t>(0, n - 1)(random);
  };
  int refused = 0;
  for (int i = 0; i < 2000; i++) {
    std::string bytes = file.bytes;
    if (below(10) == 0) bytes.resize(below(bytes.size()));
    for (size_t flips = 1 + below(4); flips-- && !bytes.empty();) {
      const size_t range = below(2) ? std::min<size_t>(8 + header, bytes.size()) : bytes.size();
      bytes[below(range)] = below(2) ? char(below(256)) : char(' ' + below(95));
    }
    std::ofstream(file.path, std::ios::binary) << bytes;  // write_file would wait for the disk
    refused += error_of([&] { Graph(load_sealed(file.path, at::kCPU))(ids); }) != "";
  }
  EXPECT_GT(refused, 500);
}

}  // namespace
}  // namespace autoresearch
