// What train.cpp stands on and can't change: task, data, clock, record, sealing.
//
// A program makes one Run, hands over its model as a function from token ids to logits, then trains
// until next_step() is false. It never sees the held-out rows and never computes its own score:
// finish() traces the function into a graph (a *sealed* model), and another process scores that.
//
//   Run run(argc, argv);
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
  int64_t seq_len;     // T: tokens a training row and a scored row have
  double time_budget;  // seconds of training
};

// The device that this run computes on.
struct Device {
  at::Device device{at::kCPU};
  std::string name;       // "NVIDIA H200", or the CPU's model name
  double memory_gb = 0;   // of the GPU, or of the machine
  double peak_flops = 0;  // dense bf16 FLOP/s by its data sheet; 0: unknown, MFU is given as 0
  bool bfloat16 = false;  // native products of it: GPUs from Ampere on, CPUs with AVX512-BF16
  bool is_cuda() const { return device.is_cuda(); }
};

// Rows packed from whole documents, each beginning with the BOS token; no padding.
// targets[b][t] is the token after inputs[b][t]. Both (rows, T) int64 on the run's device.
struct Batch {
  at::Tensor inputs, targets;
  int64_t epoch;  // pass over the training documents that is being read, from 1 on
};

// One line of the record: a hyperparameter or a derived size, as it was resolved for this device.
using Fact = std::pair<std::string, std::variant<int64_t, double, std::string>>;

// One training run. Methods throw on misuse; run_main below prints what they throw.
class Run {
 public:
  // Reads the command line (--task --device --seed --steps --seal --json --profile), opens the
  // training split, seeds ATen's generators, starts the loader.
  Run(int argc, char** argv);
  ~Run();

  const Task& task() const;
  const Device& device() const;

  // The resolved configuration, for train.json, the summary and the next prompt. Keys that the
  // summary uses: "depth", "parameters" (count), "flops_per_token" (forward + backward);
  // "micro_batch" (rows), whenever it changes, for the last words of a run without memory.
  void describe(std::vector<Fact> facts);

  // Hands over the model: ids (rows, T) int64 -> logits (rows, T, vocab_size), floating point.
  // Called before the first step; traced at once on one row, checked against the scorer's
  // allow-list and causality probe, and compared with the live function. What the scorer would
  // refuse ends the run here (exit 5) before any time is spent. The function must be functional (no
  // in-place operator), deterministic, causal, treat rows independently, take B and T from ids, and
  // read weights that do not require gradients: w.variable_data(), or copies made with w.detach()
  // outside the function, which share memory. It is called again by finish(), after training.
  void model(std::function<at::Tensor(at::Tensor ids)> logits);

  // True while there is budget (or --steps) left; false if one more step, as long as the last one,
  // would overrun the budget by more than 1 %. The clock starts when it first returns true. The
  // parent times start-up, training and sealing, each by itself; a run that takes far longer for
  // one of them than the baseline is void. On a GPU the program may be a step ahead of the device,
  // so that the device never has to wait for work.
  bool next_step();

  // The next rows of the training split, prefetched on a thread. T is task().seq_len.
  Batch batch(int64_t rows);

  // Puts the batches taken since next_step() back, to be handed out again in the same order: for a
  // step that is repeated in smaller pieces after running out of memory.
  void rewind_step();

  // From here on the step does `name`, such as "forward", until the next name: for the record of
  // milliseconds per step. It costs next to nothing and synchronizes nothing. On a GPU it is time
  // on the device's timeline, whenever the host called this. batch() counts by itself, as
  // "loader_wait": on a GPU, the copying of rows and the time it idles because no row is there.
  void phase(const char* name);

  double progress() const;  // share of the budget that is spent, in [0, 1]; of --steps if given
  int64_t step() const;     // 0 during the first step

  // The mean training loss of this step, in nats per token, as a 0-d tensor on any device. It is
  // read one step later, so it costs no synchronization. NaN or more than 100 ends the run: exit 3.
  void log_loss(at::Tensor mean_loss);

  // Whether this exception says that memory ran out: not only c10::OutOfMemoryError, but also what
  // CUDA, cuBLAS and cuDNN throw when they get none for themselves.
  static bool out_of_memory(const std::exception& error);

  // Seals the model; scores it here, or hands it over (--seal FILE); writes train.json; prints the
  // summary. Returns the exit code.
  int finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Runs `program` and turns its exceptions into one line on stderr and an exit code:
//   int main(int argc, char** argv) { return run_main(argc, argv, train); }
int run_main(int argc, char** argv, int (*program)(int, char**));

}  // namespace autoresearch
