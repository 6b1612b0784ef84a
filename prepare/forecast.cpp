#include "prepare/forecast.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <numeric>
#include <thread>
#include <vector>

#include "common/limits.h"
#include "common/progress.h"
#include "task/effort.h"

namespace autoresearch {
namespace {

// train.cpp's sizes on a CPU; forecast_test holds them to it.
constexpr double kDepth = 2, kWidth = 64, kMlpRatio = 4, kTotalBatch = 1024;
constexpr double kShortWindow = 0.5;  // of all layers but the last

// What training and scoring reach of trial_speed(), and seconds in which the scorer starts:
// measured where docs/performance.md says. Elsewhere it may be wrong by a factor.
constexpr double kShare = 0.4, kStart = 1, kFactor = 3;

constexpr double kFewSteps = 50;  // with fewer a training has hardly begun to learn
// Sizes below which smaller ones are no help: the demo's.
constexpr int64_t kLeastVocab = 1024, kLeastRow = 256, kLeastHeldOut = 65536;

// Multiplications and additions of a forward pass for one token: two for each weight, four for each
// channel of each key that a query sees. A backward pass takes twice as many.
double work_of_token(const TaskInfo& info) {
  const double rows = static_cast<double>(info.seq_len);
  const double weights = kDepth * (4 + 2 * kMlpRatio) * kWidth * kWidth;
  const double head = static_cast<double>(info.vocab_size) * kWidth;
  const double keys = (kDepth - 1) * kShortWindow * rows + rows;
  return 2 * (weights + head) + 4 * kWidth * keys;
}

bool makes_few_steps(const Forecast& forecast) { return forecast.steps < kFewSteps; }

bool scores_too_long(const Forecast& forecast, const TaskInfo& info) {
  return forecast.light > info.time_budget;
}

}  // namespace

Forecast forecast(const TaskInfo& info, double speed) {
  const double row = static_cast<double>(info.seq_len), work = work_of_token(info);
  const double tokens = kShare * speed / (3 * work);  // a second
  const auto scoring = [&](const Effort& effort) {
    const auto rows = static_cast<double>(rows_computed(info.val.rows, effort));
    return kStart + rows * row * work / (kShare * speed);
  };
  Forecast result;
  result.steps = info.time_budget * tokens / std::max(kTotalBatch, row);
  result.light = scoring(light_effort(info.val.rows));
  result.full = scoring(full_effort(info.val.rows));
  return result;
}

TaskInfo suitable(TaskInfo info, double speed) {
  info.eval_tokens = info.val.rows * info.seq_len;
  for (;; info.val.rows = info.eval_tokens / info.seq_len) {
    const Forecast now = forecast(info, speed);
    const bool few = makes_few_steps(now), too_long = scores_too_long(now, info);
    const bool may_cut = info.eval_tokens / 2 >= kLeastHeldOut;
    if (!few && !too_long) return info;
    if (!few && info.val.rows > kFullCuts && may_cut) {
      info.eval_tokens /= 2;  // they are most of what is scored
    } else if (info.seq_len / 2 >= kLeastRow) {
      info.seq_len /= 2;
    } else if (info.vocab_size / 2 >= kLeastVocab) {
      info.vocab_size /= 2;
    } else if (too_long && may_cut) {
      info.eval_tokens /= 2;
    } else {
      return info;
    }
  }
}

// ------------------------------------------------------------------------------------------------
// The trial

namespace {

constexpr int kSide = 64;  // of the matrices

#ifdef __x86_64__  // the level of vector instructions is chosen when the program starts
#define EACH_LEVEL [[gnu::target_clones("avx512f", "fma", "default")]]
#else
#define EACH_LEVEL
#endif

// sums += a * b. Four rows of b at a time, so that fewer sums are loaded and stored.
EACH_LEVEL void multiply(float* __restrict sums, const float* __restrict a,
                         const float* __restrict b) {
  for (int row = 0; row < kSide; ++row, sums += kSide, a += kSide)
    for (int k = 0; k < kSide; k += 4)
      for (int column = 0; column < kSide; ++column)
        sums[column] += a[k] * b[k * kSide + column] + a[k + 1] * b[(k + 1) * kSide + column] +
                        a[k + 2] * b[(k + 2) * kSide + column] +
                        a[k + 3] * b[(k + 3) * kSide + column];
}

double thread_seconds() {
  timespec time = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

}  // namespace

// By the CPU time of each thread: what else runs meanwhile does not count.
double trial_speed() {
  constexpr double kOperations = 2.0 * kSide * kSide * kSide, kSeconds = 0.1;
  std::vector<double> speeds(static_cast<size_t>(training_threads()));
  std::vector<std::thread> threads;
  for (double& speed : speeds)
    threads.emplace_back([&speed] {
      std::vector<float> a(kSide * kSide), b = a, sums = a;
      const double begin = thread_seconds();
      double products = 0, seconds = 0;
      for (; seconds < kSeconds; seconds = thread_seconds() - begin, ++products)
        multiply(sums.data(), a.data(), b.data());
      speed = kOperations * products / seconds;
    });
  for (std::thread& thread : threads) thread.join();
  return std::accumulate(speeds.begin(), speeds.end(), 0.0);
}

// ------------------------------------------------------------------------------------------------
// Words

namespace {

// "about 1,400": two digits, since no more is known.
std::string about(double number) {
  double unit = 1;
  while (number / unit >= 100) unit *= 10;
  return fmt::format("about {:.0f}", std::round(number / unit) * unit);
}

std::string scoring_in_words(const Forecast& forecast) {
  const std::string light = human_seconds(forecast.light), full = human_seconds(forecast.full);
  return light == full ? light : fmt::format("{}, or {} for what may be kept", light, full);
}

// The flags that make `other` of `info`.
std::string flags(const TaskInfo& info, const TaskInfo& other) {
  std::string text;
  const auto flag = [&](const char* name, int64_t before, int64_t after) {
    if (before != after) text += fmt::format("{} {} ", name, after);
  };
  flag("--vocab", info.vocab_size, other.vocab_size);
  flag("--seq-len", info.seq_len, other.seq_len);
  flag("--eval-tokens", info.val.rows * info.seq_len, other.eval_tokens);
  return text;
}

}  // namespace

std::string forecast_in_words(const TaskInfo& info, std::optional<double> speed) {
  if (!speed)
    return "How many steps this machine's GPU makes, and how long scoring takes, shows a training: "
           "build/train --task " +
           info.name + "\n";
  const Forecast now = forecast(info, *speed);
  std::string text = fmt::format(
      "On this machine's CPU a training makes {} steps in its {}; scoring takes about {}\n"
      "(by a trial of the CPU for a tenth of a second: it may be wrong by a factor of {:.0f})\n",
      about(now.steps), human_seconds(info.time_budget), scoring_in_words(now), kFactor);
  const bool few = makes_few_steps(now);
  if (!few && !scores_too_long(now, info)) return text;
  text += few ? "So few steps teach a model little; " : "Scoring takes longer than training; ";
  const TaskInfo other = suitable(info, *speed);
  const std::string smaller = flags(info, other);
  if (smaller.empty()) return text + "give the task a longer --time-budget, and --force\n";
  const Forecast then = forecast(other, *speed);
  return text + fmt::format("with {}--force: {} steps, scored in {}{}\n", smaller,
                            about(then.steps), scoring_in_words(then),
                            makes_few_steps(then) ? "; more with a longer --time-budget" : "");
}

}  // namespace autoresearch
