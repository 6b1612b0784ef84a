// Every operator of the list with thousands of odd arguments, in a process in which a step outside
// of a tensor is a fault and uninitialized memory shows in the results.
//
// AUTORESEARCH_SWEEP_CALLS: how many calls an operator gets, 3,000 if unset.
#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/record_function.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <optional>
#include <set>
#include <sstream>

#include "referee/operators.h"
#include "tests/guarded_memory.h"
#include "tests/odd_calls.h"
#include "tests/operator_examples.h"

namespace autoresearch {
namespace {

using torch::jit::Stack;

constexpr size_t kLargestBlock = 4 << 20;  // bytes

// An operator and a good call of it.
struct Subject {
  c10::OperatorHandle operation;
  Stack good;
  bool checked;
};

std::string* wanted_name = nullptr;
std::optional<Subject>* found = nullptr;

std::unique_ptr<at::ObserverContext> watch(const at::RecordFunction& call) {
  const auto name = call.operator_name();
  if (name && !*found && c10::toString(*name) == *wanted_name)
    *found = {c10::Dispatcher::singleton().findSchemaOrThrow(name->name.c_str(),
                                                             name->overload_name.c_str()),
              Stack(call.inputs().begin(), call.inputs().end()), true};
  return nullptr;
}

Subject subject_of(const std::string& name, const std::function<void()>& example) {
  std::string full = "aten::" + name;
  std::optional<Subject> subject;
  wanted_name = &full, found = &subject;
  const auto handle =
      at::addThreadLocalCallback(at::RecordFunctionCallback(watch).needsInputs(true));
  try {
    example();
  } catch (const c10::Error&) {  // only a GPU can compute it
  }
  at::removeCallback(handle);
  EXPECT_TRUE(subject.has_value()) << name;
  return *subject;
}

// ------------------------------------------------------------------------------------------------
// The child

struct Outcome {
  enum Kind : uint8_t { kNotRun, kRefused, kThrew, kDone } kind = kNotRun;
  uint64_t digest = 0;
};

struct Shared {
  std::atomic<size_t> at;  // the call that runs
  Outcome outcomes[];
};

void mix(uint64_t& digest, const void* bytes, size_t size) {
  for (size_t i = 0; i < size; i++)
    digest = (digest ^ static_cast<const uint8_t*>(bytes)[i]) * 0x100000001b3;
}

void mix(uint64_t& digest, const c10::IValue& value) {
  if (value.isList())
    for (const c10::IValue& element : value.toListRef()) mix(digest, element);
  if (!value.isTensor() || !value.toTensor().defined()) return;
  at::Tensor tensor = value.toTensor();
  mix(digest, tensor.sizes().data(), size_t(tensor.dim()) * sizeof(int64_t));
  if (tensor.numel() > 100'000) return;
  tensor = tensor.contiguous();
  mix(digest, tensor.const_data_ptr(), tensor.nbytes());
}

Outcome run(const Subject& subject, uint64_t seed) {
  Outcome outcome;
  const c10::FunctionSchema& schema = subject.operation.schema();
  Stack stack = OddCalls(seed).like(schema, subject.good);
  try {
    if (subject.checked) check_call(schema, stack);
  } catch (const Error&) {
    outcome.kind = Outcome::kRefused;
    return outcome;
  }
  try {
    subject.operation.callBoxed(stack);
    outcome.kind = Outcome::kDone;
    // What attention returns beside its result can't be used by a graph.
    if (schema.name().find("attention") != std::string::npos) stack.resize(1);
    for (const c10::IValue& value : stack) mix(outcome.digest, value);
  } catch (const std::exception&) {
    outcome.kind = Outcome::kThrew;
  }
  return outcome;
}

struct Memory {
  GuardedMemory::Side side;
  uint8_t poison;
};

[[noreturn]] void run_child(const std::vector<Subject>& subjects, size_t calls, Memory memory,
                            Shared& shared, size_t first) noexcept {
  static GuardedMemory guarded(memory.side, memory.poison, kLargestBlock);
  c10::SetCPUAllocator(&guarded, /*priority=*/100);
  mallopt(M_PERTURB, memory.poison);
  const rlimit none{0, 0}, space{rlim_t{64} << 30, rlim_t{64} << 30};
  setrlimit(RLIMIT_CORE, &none);
  setrlimit(RLIMIT_AS, &space);
  std::freopen("/dev/null", "w", stderr);  // warnings
  const c10::InferenceMode inference;
  for (size_t i = first; i < subjects.size() * calls; i++) {
    shared.at = i;
    shared.outcomes[i] = run(subjects[i / calls], i);
  }
  _exit(0);
}

// ------------------------------------------------------------------------------------------------
// The parent

struct Sweep {
  const std::vector<Subject>& subjects;
  size_t calls;
  bool to_the_end;  // or to the first fault
  std::set<std::string> faults;
  size_t slow = 0;

  std::string describe(size_t i, const std::string& what) const {
    const Subject& subject = subjects[i / calls];
    std::ostringstream text;
    text << what << ": " << subject.operation.operator_name() << ", call " << i << ":";
    for (const c10::IValue& value : OddCalls(i).like(subject.operation.schema(), subject.good))
      if (value.isTensor() && value.toTensor().defined())
        text << " " << value.toTensor().scalar_type() << value.toTensor().sizes() << "/"
             << value.toTensor().strides();
      else if (value.isTensorList())
        text << " tensors";
      else
        text << " " << value;
    return text.str();
  }

  // Waits for the child's end, and ends it itself if one call takes seconds. Returns the status.
  static int wait_for(pid_t child, const Shared& shared) {
    const int fd = int(syscall(SYS_pidfd_open, child, 0));
    pollfd ended{fd, POLLIN, 0};
    for (size_t before = SIZE_MAX; poll(&ended, 1, 3000) == 0; before = shared.at)
      if (shared.at == before) kill(child, SIGKILL);
    close(fd);
    int status = 0;
    waitpid(child, &status, 0);
    return status;
  }

  // All calls; a call that ends the child is noted, and a new child goes on behind it.
  std::vector<Outcome> outcomes(Memory memory) {
    const size_t all = subjects.size() * calls, bytes = sizeof(Shared) + all * sizeof(Outcome);
    void* map = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    auto& shared = *static_cast<Shared*>(map);
    for (size_t first = 0; first < all; first = shared.at + 1) {
      shared.at = first;
      const pid_t child = fork();
      if (child == 0) run_child(subjects, calls, memory, shared, first);
      const int status = wait_for(child, shared);
      if (WIFEXITED(status) && WEXITSTATUS(status) == 0) break;
      const bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
      slow += killed;
      if (!killed) faults.insert(describe(shared.at, "fault"));
      if (!faults.empty() && !to_the_end) break;
    }
    const std::vector<Outcome> result(shared.outcomes, shared.outcomes + all);
    munmap(map, bytes);
    return result;
  }

  // Fills `faults`. Returns how many calls were done.
  size_t run() {
    const std::vector<Outcome> one = outcomes({GuardedMemory::kEnds, 0x3c}),
                               other = outcomes({GuardedMemory::kEnds, 0xbf});
    outcomes({GuardedMemory::kBegins, 0x3c});
    size_t done = 0;
    for (size_t i = 0; i < one.size(); i++) {
      if (one[i].kind == Outcome::kNotRun || other[i].kind == Outcome::kNotRun) continue;
      done += one[i].kind == Outcome::kDone;
      if (one[i].kind != other[i].kind || one[i].digest != other[i].digest)
        faults.insert(describe(i, "uninitialized memory"));
    }
    return done;
  }
};

size_t calls_by_user() {
  const char* calls = std::getenv("AUTORESEARCH_SWEEP_CALLS");
  return calls ? std::stoul(calls) : 3000;
}

TEST(Sweep, NoCallOfAnOperatorOnTheListLeavesItsTensors) {
  at::set_num_threads(1);
  std::vector<Subject> subjects;
  const Operands operands;
  for (const Example& example : kOperatorExamples)
    subjects.push_back(subject_of(example.name, [&] { example.call(operands); }));
  Sweep sweep{subjects, calls_by_user(), true, {}};
  const size_t done = sweep.run();
  std::printf("%zu of %zu calls were computed, %zu took too long\n", done,
              subjects.size() * sweep.calls, sweep.slow);
  EXPECT_GT(done, subjects.size() * sweep.calls / 4);
  for (const std::string& fault : sweep.faults) ADD_FAILURE() << fault;
}

// What was found by hand is found by the sweep as well where nothing is checked.
TEST(Sweep, FindsTheHolesThatTheChecksClose) {
  at::set_num_threads(1);
  const Operands o;
  const std::pair<const char*, std::function<void()>> holes[] = {
      {"scaled_dot_product_attention",
       [&] { at::scaled_dot_product_attention(o.heads, o.heads, o.heads); }},
      {"pad",
       [&] {
         at::pad(o.x, {1, 1}, "circular");
       }},
      {"_weight_norm", [&] { at::_weight_norm(o.square, o.square.narrow(1, 0, 1), 0); }},
      {"zeros", [&] {
         at::zeros({2, 3}, at::kFloat);
       }}};
  for (const auto& [name, call] : holes) {
    Subject subject = subject_of(name, call);
    subject.checked = false;
    const std::vector<Subject> subjects = {subject};
    Sweep sweep{subjects, 2000, false, {}};
    sweep.run();
    EXPECT_FALSE(sweep.faults.empty()) << name;
  }
}

}  // namespace
}  // namespace autoresearch
