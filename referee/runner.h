// Runners: processes that run a sealed graph in a sandbox, and hold nothing that the graph wants:
// no targets, no other rows than they are given, no files but the model.
//
// Parent and runner speak over a Unix socket, which is the runner's standard input. Every message
// is a Header and its bytes. The logits stand in memory that both map: on a CPU those of a whole
// batch. A GPU's logits are too many to be copied to the host, so its runner keeps them on the
// device, computes the losses itself after the batch is final, for targets that it is told only
// then, and copies the rows that the parent asks for, with which the parent checks it.
#pragma once

#include <ATen/ATen.h>

#include <atomic>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/descriptor.h"
#include "common/files.h"
#include "common/process.h"

namespace autoresearch {

struct RunnerOptions {
  fs::path model;               // a sealed file, which only runners read
  fs::path program;             // build/score, which `score runner` makes a nursery
  std::string device = "auto";  // auto: where the model was sealed for; cpu; cuda; cuda:N
  bool sandboxed = true;
  int threads = 0;            // of each runner on a CPU; 0: as many as libtorch takes
  bool keeps_logits = false;  // as on a GPU, whatever the device is (for tests)
};

// A sandboxed process that has libtorch loaded, nothing else, and forks runners on request: they
// start in milliseconds. It never hears what they are asked. A runner on a CPU reads the model's
// file and, before a byte of it is parsed, gives up all system calls but those that computing takes
// (common/seccomp.h), so that not even one that is taken over could reach another. A GPU's driver
// needs these calls, so a runner on a GPU keeps them, and gets a nursery, and with it a sandbox, of
// its own.
class Nursery {
 public:
  explicit Nursery(const RunnerOptions& options);  // starts it; does not wait
  ~Nursery();                                      // ends it and its runners
  Nursery(const Nursery&) = delete;

  Descriptor fork_runner();  // a socket to a new runner
  // Why it ended, if it did, as an exception; else it returns.
  void explain_end();

 private:
  Descriptor socket_;
  std::atomic<bool> stop_ = false;
  Exit exit_;
  std::exception_ptr failure_;
  std::promise<void> ended_;
  std::future<void> end_ = ended_.get_future();
  std::thread thread_;  // waits for the process
};

// The parent's end of one runner. Not for several threads. Every method throws Error (kCannotSeal
// if the model is at fault) if the runner refuses, breaks the protocol or ends.
class Runner {
 public:
  explicit Runner(std::shared_ptr<Nursery> nursery);  // does not wait
  ~Runner();                                          // ends it
  Runner(const Runner&) = delete;

  // The one shape that the model runs at. Wait until the model is loaded.
  struct Shape {
    int64_t rows = 0, seq_len = 0, vocab_size = 0;
    bool operator==(const Shape&) const = default;
  };
  const Shape& shape();

  // Maps the shared memory, for `shape()`. Once, before the first batch; the caller has checked
  // the shape.
  void share_memory();

  void begin(const std::vector<uint16_t>& ids);  // rows * seq_len; returns at once
  void finish();                                 // waits for the batch that was begun

  // Of the batch that was finished. Float32, (seq_len, vocab_size), a private copy.
  at::Tensor logits(int64_t place);
  // Nats of each token of the rows in `places`, as a runner that keeps the logits computed them for
  // `targets`, (places, seq_len) int64: float64 of that shape.
  at::Tensor nats(const std::vector<int64_t>& places, const at::Tensor& targets);

  bool keeps_logits() const { return keeps_logits_; }

 private:
  struct Mapping;
  std::vector<char> receive(uint32_t kind);
  void ask(uint32_t kind, const void* data, size_t size);

  std::shared_ptr<Nursery> nursery_;
  Descriptor socket_;
  Shape shape_;
  bool keeps_logits_ = false;
  std::unique_ptr<Mapping> memory_;
};

// Whether a model may be run on a GPU: `device` names one, or there is one and it is "auto".
bool may_use_gpu(const std::string& device);

// Nurseries for so many runners: one for all on a CPU, one for each if a GPU may be used.
std::vector<std::shared_ptr<Nursery>> nurseries(const RunnerOptions& options, int64_t runners);

// Nats of each token: logits (rows, seq_len, vocab_size), targets (rows, seq_len) int64 on the CPU.
// Float64 on the CPU, of the targets' shape.
at::Tensor token_nats(const at::Tensor& logits, const at::Tensor& targets);

// A nursery's whole life, and its runners', on standard input. Returns an exit code.
int nursery_main(const fs::path& model, const std::string& device, bool keeps_logits);

}  // namespace autoresearch
