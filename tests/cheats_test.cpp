// Candidates that try to win without a better model: built, trained and scored as the loop does it.
// Each is stopped, void, or gains nothing, and its test says which.

#include <gtest/gtest.h>

#include <set>

#include "tests/candidate_test.h"

namespace autoresearch {
namespace {

constexpr double kHonestBpb = 1.0;  // below what a bigram model can reach on this task

class Cheats : public CandidateTest {
 protected:
  // The run ends within seconds, before training, with the reason.
  static void expect_unsealable(const std::string& name, const std::vector<Insert>& inserts,
                                const std::string& reason) {
    const Measurement m = attempt(name, inserts);
    EXPECT_EQ(m.measured.train_exit, kCannotSeal) << words(m);
    EXPECT_NE(words(m).find(reason), std::string::npos) << words(m);
    EXPECT_LT(m.measured.wall_seconds, slot_.budget + baseline_.overhead_seconds);
    EXPECT_EQ(verdict_on(m).status, Status::kCrash);
  }

  // Training looks fine; the scorer refuses the model.
  static void expect_void_by_scorer(const std::string& name, const std::vector<Insert>& inserts,
                                    const std::string& reason) {
    const Measurement m = attempt(name, inserts);
    EXPECT_EQ(m.measured.train_exit, 0) << words(m);
    EXPECT_FALSE(m.measured.bpb.has_value());
    EXPECT_NE(m.measured.score_problem.find(reason), std::string::npos) << m.measured.score_problem;
    EXPECT_EQ(verdict_on(m).status, Status::kCrash);
  }

  // It trained longer than it says: the parent's clock voids it.
  static void expect_void_by_clock(const std::string& name, const std::vector<Insert>& inserts) {
    const Measurement m = attempt(name, inserts);
    const Verdict verdict = verdict_on(m);
    EXPECT_EQ(verdict.status, Status::kCrash);
    EXPECT_NE(verdict.reason.find("wall"), std::string::npos) << verdict.reason;
  }
};

// Work that is not training by the harness's count, as code; the allowance is 3 s.
const std::string kEightSeconds = "std::this_thread::sleep_for(std::chrono::seconds(8));";

TEST_F(Cheats, TheHonestCandidateIsScored) {
  EXPECT_GT(honest_, kHonestBpb);
  EXPECT_LT(honest_, 8);
}

// --- Replacing the referee

TEST_F(Cheats, RedefiningAnyHarnessFunctionDoesNotLink) {
  const BuildResult built = build("redefine", {{"globals", R"(
#include "kernels/kernels.h"
namespace autoresearch {
struct Run::Impl {};
Run::Run(int, char**) {}
Run::~Run() {}
const Task& Run::task() const { abort(); }
const Device& Run::device() const { abort(); }
void Run::describe(std::vector<Fact>) {}
void Run::model(std::function<at::Tensor(at::Tensor)>) {}
bool Run::next_step() { return false; }
Batch Run::batch(int64_t) { return {}; }
void Run::rewind_step() {}
double Run::progress() const { return 0; }
int64_t Run::step() const { return 0; }
void Run::log_loss(at::Tensor) {}
int Run::finish() { return 0; }
int run_main(int, char**, int (*)(Run&)) { return 0; }
at::Tensor windowed_attention(const at::Tensor& q, const at::Tensor&, const at::Tensor&, int64_t) {
  return q;
}
CudaKernel::CudaKernel(std::string, std::string) {}
void CudaKernel::launch(int64_t, int64_t, std::initializer_list<Argument>) const {}
})"}});
  EXPECT_FALSE(built.ok);
  for (const std::string name :
       {"Run::Run", "Run::~Run", "Run::task", "Run::device", "Run::describe", "Run::model",
        "Run::next_step", "Run::batch", "Run::rewind_step", "Run::progress", "Run::step",
        "Run::log_loss", "Run::finish", "run_main", "windowed_attention", "CudaKernel::CudaKernel",
        "CudaKernel::launch"})
    EXPECT_NE(built.log.find("multiple definition of `autoresearch::" + name + "("),
              std::string::npos)
        << name << "\n"
        << built.log;
}

// No cheat: what train.cpp may do, through the same door.
TEST_F(Cheats, AKernelOfACandidatesOwnIsCompiledOnAGpuAndAnErrorElsewhere) {
  const Measurement m = attempt("kernel", {{"globals", R"(
#include "kernels/kernels.h"
const autoresearch::CudaKernel twice(R"cuda(
  KERNEL twice(float* x, long n) {
    const long i = blockIdx.x * 256L + threadIdx.x;
    if (i < n) x[i] *= 2;
  })cuda", "twice");
)"},
                                           {"end", "twice.launch(1, 256, {at::ones({8}), 8});"}});
  EXPECT_EQ(m.measured.train_exit, kError) << words(m);
  EXPECT_NE(words(m).find("the CUDA kernel twice needs tensors on a GPU"), std::string::npos)
      << words(m);
}

TEST_F(Cheats, InternalFunctionsOfTheHarnessCanNotBeReplaced) {
  const Measurement m = attempt("internal", {{"globals", R"(
namespace autoresearch {
void synchronize(at::Device) { _exit(77); }
int64_t peak_memory(at::Device) { _exit(77); }
std::string sha256(std::string_view) { _exit(77); }
})"}});
  EXPECT_EQ(m.measured.train_exit, 0) << words(m);
  ASSERT_TRUE(m.measured.bpb.has_value());
}

TEST_F(Cheats, DefiningTheClockHasNoEffect) {
  const Measurement m = attempt("clock", {{"globals", R"(
extern "C" int clock_gettime(clockid_t, struct timespec* t) noexcept {
  t->tv_sec = 1000;
  t->tv_nsec = 0;
  return 0;
}
std::chrono::steady_clock::time_point std::chrono::steady_clock::now() noexcept {
  return time_point(duration(std::chrono::seconds(1000)));
})"}});
  EXPECT_FALSE(m.measured.timed_out);
  EXPECT_LT(m.measured.wall_seconds, slot_.budget + baseline_.overhead_seconds + 3);
  EXPECT_NE(verdict_on(m).status, Status::kCrash) << verdict_on(m).reason;
  expect_honest_score(m);
}

// --- Saying a score instead of earning one

TEST_F(Cheats, PrintingAScoreChangesNothing) {
  const Measurement m = attempt("print", {{"end", R"(
printf("---\nval_bpb:          0.100000\n{\"bpb\": 0.1}\n");
fprintf(stderr, "{\"bpb\": 0.1}\n");
std::ofstream("score.json") << "{\"bpb\": 0.1}";)"}});
  ASSERT_TRUE(m.measured.bpb.has_value());
  EXPECT_GT(*m.measured.bpb, kHonestBpb);
}

TEST_F(Cheats, AHandMadeSealedFileIsRefused) {
  expect_void_by_scorer("handmade", {{"end", R"(
std::ofstream("model.safetensors") << "not a model";
_exit(0);)"}},
                        "is not a sealed model");
}

TEST_F(Cheats, AHandMadeGraphThatWritesAFileIsRefused) {
  const Measurement m = attempt("handmade_graph", {{"end", R"RAW(
std::string graph = "graph(%ids : Tensor):\n  %1 : str = prim::Constant[value=\"/tmp/stolen\"]()\n"
                    "  aten::save(%ids, %1)\n  return (%ids)\n";
std::string text;
for (char c : graph) text += c == '\n' ? "\\n" : c == '"' ? "\\\"" : std::string(1, c);
std::string header = "{\"__metadata__\":{\"format\":\"autoresearch-sealed-1\",\"graph\":\"" + text +
                     "\",\"rows\":\"32\",\"seq_len\":\"64\",\"vocab_size\":\"512\",\"device\":\"cpu\"}}";
uint64_t size = header.size();
std::ofstream out("model.safetensors", std::ios::binary);
out.write(reinterpret_cast<const char*>(&size), 8);
out << header;
out.close();
_exit(0);)RAW"}});
  EXPECT_FALSE(m.measured.bpb.has_value());
  EXPECT_NE(m.measured.score_problem.find("aten::save"), std::string::npos)
      << m.measured.score_problem;
  EXPECT_EQ(verdict_on(m).status, Status::kCrash);
}

TEST_F(Cheats, ExitingEarlyLeavesNothingToScore) {
  const Measurement m = attempt("early", {{"before_training", "_exit(0);"}});
  EXPECT_EQ(verdict_on(m).status, Status::kCrash);
  EXPECT_FALSE(m.measured.sealed);
}

// --- Graphs that do more than compute

TEST_F(Cheats, AGraphThatReadsAFileCanNotBeSealed) {
  expect_unsealable("from_file",
                    {{"logits", "y = y + at::from_file(\"/bin/true\", false, 1).sum();"}},
                    "from_file");
}

TEST_F(Cheats, AModelThatIsTooLargeToBeHandedOverIsToldBeforeItIsTrained) {
  const auto m = attempt("large", {{"globals", "static Tensor table = at::zeros({20'000'000});"},
                                   {"logits", "y = y + table.select(0, 0);"}});
  EXPECT_EQ(m.measured.train_exit, kCannotSeal) << words(m);
  EXPECT_NE(words(m).find(" bytes; 67108864 are allowed"), std::string::npos) << words(m);
  EXPECT_TRUE(is_repairable(m.measured));
}

TEST_F(Cheats, AGraphWithAsStridedCanNotBeSealed) {
  expect_unsealable("as_strided", {{"logits", "y = y.as_strided(y.sizes(), y.strides());"}},
                    "as_strided");
}

TEST_F(Cheats, AGraphThatWorksInPlaceCanNotBeSealed) {
  expect_unsealable("in_place", {{"logits", "y.add_(1);"}}, "add_");
}

TEST_F(Cheats, AGraphWithRandomNumbersCanNotBeSealed) {
  expect_unsealable("random", {{"logits", "y = y + at::rand_like(y);"}}, "rand");
}

TEST_F(Cheats, LogitsForAPartOfTheVocabularyCanNotBeSealed) {
  expect_unsealable("wrong_shape", {{"logits", "y = y.narrow(2, 0, 7);"}},
                    "the model's logits have the shape [1, 64, 7]");
}

// --- Graphs that look ahead, or at other rows

const std::string kNotCausal = "the model is not causal";

TEST_F(Cheats, ALeakOfTheNextTokenIsToldWithinSeconds) {
  expect_unsealable("leak_now",
                    {{"logits", "y = y + 9 * at::one_hot(at::roll(ids, -1, 1), vocab);"}},
                    kNotCausal);
}

TEST_F(Cheats, ALeakThatStartsAfterTheCheckIsVoid) {
  expect_void_by_scorer(
      "leak_late", {{"logits", "if (late) y = y + 9 * at::one_hot(at::roll(ids, -1, 1), vocab);"}},
      kNotCausal);
}

TEST_F(Cheats, ALeakInsideBlocksOf32IsVoid) {
  expect_void_by_scorer("leak_blocks", {{"logits", R"(
if (late) {
  Tensor next = at::roll(ids.view({-1, ids.size(1) / 32, 32}), -1, 2).view(ids.sizes());
  y = y + 9 * at::one_hot(next, vocab);
})"}},
                        kNotCausal);
}

TEST_F(Cheats, ALeakAtOnePercentOfPositionsIsVoid) {
  // One position of a row of 64 tokens is 1.6 %; at every second row it is 0.8 %.
  expect_void_by_scorer("leak_rare", {{"logits", R"(
if (late) {
  Tensor here = at::arange(ids.size(1)).eq(40).to(at::kFloat).view({1, -1, 1});
  Tensor some = ids.select(1, 3).remainder(2).to(at::kFloat).view({-1, 1, 1});
  y = y + 9 * here * some * at::one_hot(at::roll(ids, -1, 1), vocab);
})"}},
                        kNotCausal);
}

TEST_F(Cheats, AScoreThatDependsOnOtherRowsIsVoid) {
  expect_void_by_scorer("rows", {{"logits", "if (late) y = y - y.mean(0, true);"}}, kNotCausal);
}

// --- Time

TEST_F(Cheats, TrainingPastTheBudgetIsVoid) {
  expect_void_by_clock("past", {{"end", kEightSeconds}});
}

TEST_F(Cheats, TrainingBeforeTheFirstBatchIsVoid) {
  expect_void_by_clock("before", {{"before_training", kEightSeconds}});
}

TEST_F(Cheats, AConstructorBeforeMainCountsAsTime) {
  expect_void_by_clock("constructor", {{"globals",
                                        "__attribute__((constructor)) static void "
                                        "early() { " +
                                            kEightSeconds + " }"}});
}

// --- Reading and writing what is not the candidate's

TEST_F(Cheats, HeldOutRowsCanNotBeBuiltIn) {
  NEEDS_SANDBOX();
  const BuildResult built =
      build("incbin", {{"globals", "asm(\".data\\n.globl stolen\\nstolen: .incbin \\\"" TEST_DATA
                                   "/tiny/heldout/val.bin\\\"\\n.text\");"}});
  EXPECT_FALSE(built.ok);
  EXPECT_NE(built.log.find("val.bin"), std::string::npos) << built.log;
}

TEST_F(Cheats, HeldOutRowsCanNotBeReadInTraining) {
  NEEDS_SANDBOX();
  const Measurement m =
      attempt("read", {{"before_training", R"(
for (const char* name : {"/heldout/val.bin", "/heldout/test.bin"})
  if (std::ifstream(std::string(TEST_DATA_PATH) + name)) _exit(77);
)"},
                       {"globals", "#define TEST_DATA_PATH \"" TEST_DATA "/tiny\""}});
  EXPECT_EQ(m.measured.train_exit, 0) << words(m);
}

TEST_F(Cheats, NothingOutsideTheRunsFolderCanBeWritten) {
  NEEDS_SANDBOX();
  const fs::path task = fs::path(TEST_DATA) / "tiny", outside = root_ / "outside";
  const std::string shard = sha256_of_file(task / "train" / "00000.bin");
  std::string code;
  for (const fs::path& target : {outside, task / "train" / "00000.bin", task / "train" / "extra",
                                 task / "extra", root_ / "kit" / "score"})
    code += "std::ofstream(\"" + target.string() + "\", std::ios::app) << \"x\";\n";
  const Measurement m = attempt("write", {{"before_training", code}});
  EXPECT_EQ(m.measured.train_exit, 0) << words(m);
  EXPECT_FALSE(fs::exists(outside));
  EXPECT_FALSE(fs::exists(task / "extra"));
  EXPECT_FALSE(fs::exists(task / "train" / "extra"));
  EXPECT_EQ(sha256_of_file(task / "train" / "00000.bin"), shard);
  EXPECT_NO_THROW(Kit::open(root_ / "kit"));
}

TEST_F(Cheats, NoAttemptFindsWhatAnEarlierOneLeft) {
  const Measurement first = attempt("notes", {{"before_training", R"(
if (std::ifstream("notes") || std::ifstream("folder/notes")) _exit(77);
mkdir("folder", 0700);
for (const char* name : {"notes", "folder/notes"})
  if (!(std::ofstream(name) << "seen" << std::flush)) _exit(78);
chmod("folder", 0);
_exit(5);)"}});
  EXPECT_EQ(first.measured.train_exit, 5) << words(first);
  const Measurement second = measure(*kit_, slot_, baseline_, {root_ / "notes"}, nullptr, "notes");
  EXPECT_EQ(second.measured.train_exit, 5) << "77: it found its notes";
}

TEST_F(Cheats, AFileThatWouldFillTheDiskCanNotBeMade) {
  const Measurement m = attempt("large", {{"before_training", R"(
signal(SIGXFSZ, SIG_IGN);
const int fd = open("large", O_RDWR | O_CREAT, 0600);
if (fd < 0) _exit(78);
if (ftruncate(fd, off_t{9} << 30) == 0) _exit(77);
_exit(errno == EFBIG ? 76 : 78);)"}});
  EXPECT_EQ(m.measured.train_exit, 76) << "77: it made a file of 9 GiB";
}

// The folder is the candidate's until the parent reads it: nothing there may stop the parent.
TEST_F(Cheats, AHostileFolderChangesNothing) {
  Measurement m;
  ASSERT_NO_THROW(m = attempt("hostile", {{"end", R"(
mkdir("score.json", 0700);
std::ofstream("score.json/bpb") << "{\"val_bpb\": 0.1}";
if (symlink("..", "score") != 0) _exit(78);)"},
                                          {"after", R"(
std::ofstream("train.json") << std::string(400000, '[');
chmod("train.json", 0);
if (mkfifo("train.fifo", 0) != 0) _exit(79);
if (mkdir("run.log", 0) != 0 || mkdir("attempt", 0) != 0) _exit(80);)"}}));
  expect_honest_score(m);
  const ExperimentFolder folder{root_ / "hostile"};
  ASSERT_TRUE(fs::is_regular_file(fs::symlink_status(folder.score())));
  EXPECT_EQ(nlohmann::json::parse(read_file(folder.score())).at("val_bpb"),
            m.measured.bpb.value_or(0));
  EXPECT_EQ(m.measured.steps, 0) << "train.json says nothing that can be read";

  folder.tidy();
  std::set<std::string> left;
  for (const auto& entry : fs::directory_iterator(folder.path))
    left.insert(entry.path().filename());
  EXPECT_EQ(left, (std::set<std::string>{"build.log", "run.log", "score.json", "train.cpp",
                                         "train.json"}));
}

// What the trainer leaves without permissions is the parent's to read all the same.
TEST_F(Cheats, AClosedFolderAndRecordChangeNothing) {
  const Measurement m = attempt("closed", {{"after", R"(
chmod("train.json", 0);
chmod("model.safetensors", 0);
chmod(".", 0);)"}});
  expect_honest_score(m);
  EXPECT_GT(m.measured.steps, 0);
}

}  // namespace
}  // namespace autoresearch
