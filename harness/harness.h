// What train.cpp uses and can't change: task, data, clock, record, sealing.
//
// A program gets one Run, hands over its model as a function from token ids to logits, then trains
// until next_step() is false. It never sees the held-out rows and never computes its own score:
// finish() traces the function into a graph (a *sealed* model), and another process scores that.
//
//   run.describe({{"depth", 8}, {"parameters", 50332176}, {"flops_per_token", 239.08e6}});
//   run.model([&](at::Tensor ids) { return gpt.logits(ids); });
//   while (run.next_step()) {
//     Batch batch = run.batch(rows);
//     ... forward, backward, optimizer; schedules follow run.progress() ...
//     run.log_loss(loss);
//   }
//   return run.finish();
#pragma once

#include <ATen/ATen.h>

#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace autoresearch {

// What `prepare` fixed for this task. Nothing here can be changed by a candidate.
struct Task {
  std::string name;
  int64_t vocab_size;  // token ids are in [0, vocab_size)
  int64_t seq_len;     // T: tokens of a training row, and of a scored row
  double time_budget;  // seconds of training
};

// The device that this run computes on.
struct Device {
  at::Device device{at::kCPU};
  std::string name;       // "NVIDIA H200", or the CPU's model name
  double memory_gb = 0;   // of the GPU, or of the machine
  double peak_flops = 0;  // dense bf16 FLOP/s by its data sheet; 0: unknown, MFU is given as 0
  bool bfloat16 = false;  // has fast bfloat16 products: GPUs from Ampere on, CPUs with AVX512-BF16
  bool is_cuda() const { return device.is_cuda(); }
};

// Rows packed from whole documents, each beginning with the BOS token; no padding.
// targets[b][t] is the token after inputs[b][t]. Both (rows, T) int64 on the run's device.
struct Batch {
  at::Tensor inputs, targets;
  int64_t epoch;  // number of the pass over the training documents, from 1 on
};

// One line of the record: a hyperparameter or a derived size, as it was resolved for this device.
using Fact = std::pair<std::string, std::variant<int64_t, double, std::string>>;

// One training run. Methods throw on misuse; run_main below prints what they throw.
class Run {
 public:
  // Of run_main: reads the command line (train --help lists it), opens the training split, seeds
  // ATen's generators, starts the loader.
  Run(int argc, char** argv);
  ~Run();

  const Task& task() const;
  const Device& device() const;

  // The resolved configuration, for train.json, the summary and the next prompt. Keys that the
  // summary uses: "depth", "parameters" (count), "flops_per_token" (forward + backward);
  // "micro_batch" (rows), to be given again whenever it changes, for the out-of-memory message.
  void describe(std::vector<Fact> facts);

  // Hands over the model: ids (rows, T) int64 -> logits (rows, T, vocab_size), floating point.
  // Call it before the first step. The function is traced at once on one row, checked against the
  // scorer's allow-list, its causality probe and the limit of a sealed model's size, and compared
  // with the live function. If the scorer would refuse it, the run ends here (exit 5) before any
  // time is spent. The function must be functional (no in-place operator), deterministic and
  // causal, treat rows independently, take B and T from ids, and read weights that do not require
  // gradients: w.variable_data(), or tensors made with w.detach() outside the function, which share
  // memory. finish() calls it again.
  void model(std::function<at::Tensor(at::Tensor ids)> logits);

  // True while budget (or --steps) is left; false if one more step, as long as the last one, would
  // overrun the budget by more than 1 % (or 0.5 s, if that is more). The clock starts when it first
  // returns true. The parent times start-up, training and sealing separately; a run that needs far
  // longer for one of them than the baseline is void. On a GPU the program may be a step ahead of
  // the device, so that the device never has to wait for work.
  bool next_step();

  // The next rows of the training split, prefetched on a thread. T is task().seq_len.
  Batch batch(int64_t rows);

  // Puts the batches taken since next_step() back; batch() then returns the same rows again, in the
  // same order: for a step that is repeated in smaller pieces after running out of memory.
  void rewind_step();

  // Names the phase of the step that begins here, such as "forward", for the record of milliseconds
  // per step. A call is cheap and does not synchronize. On a GPU the time is that of the device,
  // not of the host. batch() counts as "loader_wait": on a GPU, the copying of rows and the time
  // that the device idles because no row is ready.
  void phase(const char* name);

  double progress() const;  // share of the budget that is spent, in [0, 1]; of --steps if given
  int64_t step() const;     // 0 during the first step

  // The mean training loss of this step, in nats per token, as a 0-d tensor on any device. It is
  // read one step later, so it costs no synchronization. NaN or more than 100 ends the run: exit 3.
  void log_loss(at::Tensor mean_loss);

  // Whether this exception says that memory ran out: not only c10::OutOfMemoryError, but also what
  // CUDA, cuBLAS and cuDNN throw when they get none for themselves.
  static bool out_of_memory(const std::exception& error);

  // Seals the model; has it scored, or writes it to a file (--seal); writes train.json (--json);
  // prints the summary. Returns the exit code.
  int finish();

 private:
  friend int run_main(int argc, char** argv, int (*program)(Run&));
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Makes the Run, hands it to `program`, and turns exceptions into one line on stderr and an exit
// code:
//   int main(int argc, char** argv) { return run_main(argc, argv, train); }
int run_main(int argc, char** argv, int (*program)(Run&));

}  // namespace autoresearch
