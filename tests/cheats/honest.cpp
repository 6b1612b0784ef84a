// A small honest candidate: a bigram model. tests/cheats_test.cpp puts dishonest code at the marks.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <fstream>
#include <thread>

#include "harness/harness.h"

using namespace autoresearch;
using at::Tensor;

// @globals

static int train(Run& run) {
  const int64_t vocab = run.task().vocab_size, width = 32;
  bool late = false;  // true after training, when the harness's own check of the model is over
  Tensor embed = at::randn({vocab, width}).requires_grad_();
  Tensor head = at::zeros({vocab, width}).requires_grad_();
  auto logits = [&](Tensor ids, Tensor embed, Tensor head) {
    Tensor y = at::linear(at::embedding(embed, ids), head);
    // @logits
    return y;
  };
  run.model([&](Tensor ids) { return logits(ids, embed.variable_data(), head.variable_data()); });
  // @before_training
  while (run.next_step()) {
    const Batch batch = run.batch(16);
    Tensor loss = at::cross_entropy_loss(logits(batch.inputs, embed, head).flatten(0, 1),
                                         batch.targets.flatten());
    loss.backward();
    at::NoGradGuard no_grad;
    for (Tensor* parameter : {&embed, &head}) {
      parameter->sub_(parameter->grad(), 2.0);
      parameter->mutable_grad().reset();
    }
    run.log_loss(loss);
  }
  late = true;
  // @end
  const int code = run.finish();
  // @after
  return code;
}

int main(int argc, char** argv) { return run_main(argc, argv, train); }
