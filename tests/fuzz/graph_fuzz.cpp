// Any text as a sealed graph: logits, the same whatever the memory held before, or one line; never
// a step outside of a tensor, a hang or a crash.
//
// The first byte of an input chooses the example whose tensors the graph gets; the rest is its
// text.
#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <c10/core/CPUAllocator.h>
#include <torch/library.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

#include "referee/operators.h"
#include "tests/guarded_memory.h"
#include "tests/operator_examples.h"

// libFuzzer's own mutations.
extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace autoresearch {
namespace {

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "%s\n", what.c_str());
  std::abort();
}

// Expanded tensors cost no memory, but every operator on them takes time.
void small_only(const c10::OperatorHandle& operation, torch::jit::Stack* stack) {
  for (const c10::IValue& value : *stack)
    TORCH_CHECK(
        !value.isTensor() || !value.toTensor().defined() || value.toTensor().numel() <= 10'000,
        "a large tensor");
  const c10::impl::ExcludeDispatchKeyGuard below(c10::DispatchKey::TESTING_ONLY_GenericMode);
  operation.callBoxed(stack);
}

TORCH_LIBRARY_IMPL(_, TESTING_ONLY_GenericMode, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&small_only>());
}

GuardedMemory& memory() {
  static GuardedMemory guarded(GuardedMemory::kEnds, 0, 1 << 20);
  return guarded;
}

const std::vector<SealedModel>& models() {
  static const std::vector<SealedModel> all = [] {
    std::vector<SealedModel> sealed;
    for (const Example& example : kOperatorExamples) try {
        sealed.push_back(sealed_call(example.call));
      } catch (const Error&) {  // only a GPU can compute it
      }
    return sealed;
  }();
  return all;
}

// The logits' bytes, or nothing if the graph is refused.
std::string logits_of(const Graph& graph, uint8_t poison) try {
  memory().fill_with(poison);
  const c10::impl::IncludeDispatchKeyGuard bounded(c10::DispatchKey::TESTING_ONLY_GenericMode);
  const at::Tensor logits = graph(at::zeros({1, 1}, at::kLong)).contiguous();
  return {static_cast<const char*>(logits.const_data_ptr()), logits.nbytes()};
} catch (const Error& error) {
  if (std::strchr(error.what(), '\n')) fail("an error of more than one line");
  return "";
} catch (const c10::OutOfMemoryError&) {
  return "";
}

void run(SealedModel model, std::string_view text) try {
  model.graph = text;
  const Graph graph(model);
  if (logits_of(graph, 0x3c) != logits_of(graph, 0xbf)) fail("uninitialized memory");
} catch (const Error&) {
}

// ------------------------------------------------------------------------------------------------
// Mutations that know what a graph is made of

using Random = std::minstd_rand;

std::string_view pick_word(std::string_view text, const char* first, const char* rest, Random& r) {
  const size_t from = text.find_first_of(first, r() % (text.size() + 1));
  if (from == text.npos) return {};
  return text.substr(from, text.find_first_not_of(rest, from + 1) - from);
}

std::string other_number(Random& random) {
  static const char* const kNumbers[] = {
      "0",  "1",   "-1",  "2", "3",    "-2",         "8",  "17",  "2147483647",
      "64", "0.5", "inf", "5", "1e30", "4294967296", "-7", "100", "4611686018427387904"};
  return kNumbers[random() % std::size(kNumbers)];
}

// One value, operator or number becomes another one.
std::string mutated(const std::string& text, Random& random) {
  static const std::vector<std::string> names = operator_names();
  const char kWord[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:";
  std::string_view from;
  std::string to;
  switch (random() % 3) {
    case 0:
      from = pick_word(text, "%", kWord, random);
      to = pick_word(text, "%", kWord, random);
      break;
    case 1:
      from = pick_word(text, "=", " =aten:_", random);
      from = pick_word(text, "a", kWord, random);
      if (!from.starts_with("aten::")) return text;
      to = names[random() % names.size()];
      to = to.substr(0, to.find('.'));
      break;
    default:
      from = pick_word(text, "=", "-.0123456789", random);
      to = "=" + other_number(random);
  }
  if (from.empty() || to.empty()) return text;
  const size_t at = size_t(from.data() - text.data());
  return text.substr(0, at) + to + text.substr(at + from.size());
}

}  // namespace
}  // namespace autoresearch

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned int seed) {
  autoresearch::Random random(seed);
  if (size < 2 || random() % 4 == 0) return LLVMFuzzerMutate(data, size, max_size);
  std::string text(reinterpret_cast<char*>(data) + 1, size - 1);
  for (auto changes = 1 + random() % 3; changes > 0; changes--)
    text = autoresearch::mutated(text, random);
  text.resize(std::min(text.size(), max_size - 1));
  std::memcpy(data + 1, text.data(), text.size());
  return 1 + text.size();
}

// The last argument is the folder of the corpus: it begins with the graphs that the tracer writes.
extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  using namespace autoresearch;
  at::set_num_threads(1);
  const fs::path folder = (*argv)[*argc - 1];
  for (size_t i = 0; fs::is_directory(folder) && i < models().size(); i++)
    write_file(folder / ("begin" + std::to_string(i)), char(i) + models()[i].graph);
  c10::SetCPUAllocator(&memory(), /*priority=*/100);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace autoresearch;
  if (size == 0) return 0;
  run(models()[data[0] % models().size()],
      std::string_view(reinterpret_cast<const char*>(data) + 1, size - 1));
  return 0;
}
