// Keep fast: what one measurement of a candidate is worth beside what is known of the noise. Pure
// functions over plain values, so that the loop and its simulation (bench/nights.cpp) decide by the
// same code. Scores are val_bpb: lower is better. What they prove before dawn stands in proof.h.
//
//   noise     sigma^2 = sum (y - mean_g)^2 / sum (n_g - 1), pooled over the codes g that were
//             measured again. The baseline's three measurements come first: a prior worth two
//             repeats.
//   bar       b, what the champion truly scores as far as is known, resting on n measurements
//   decision  d = y - b, s^2 = sigma^2 (1 + 1/n); kept if d < -sigma
//   new bar   the mean of the champion's measurements, with that which made it counted as
//             b + (mu / tau^2 + d / s^2) / (1 / tau^2 + 1 / s^2), the mean of the posterior if true
//             differences are normal(mu, tau^2): a score that won was lucky on average, a fresh one
//             is not. mu and tau are fitted to the differences of the past by median and median
//             deviation (parametric empirical Bayes: C. Morris, JASA 78, 1983, p. 47). Because true
//             differences have heavy tails, d is changed by no more than s (B. Efron and C. Morris,
//             Limiting the risk of Bayes and empirical Bayes estimators, JASA 66, 1971, p. 807).
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace autoresearch {

// What the decisions of a run rest on. An empty one is a run before its baseline.
struct Evidence {
  // The measurements of the baseline and of each champion after it; the present champion's last.
  std::vector<std::vector<double>> repeats;
  // The bars of the champions before the present one, as they were when they were replaced.
  std::vector<double> bars;
  std::vector<double> differences;  // d of every judged candidate, in order
  int64_t since_keep = 0;           // candidates judged since the last keep
};

struct Noise {
  double sigma = 0;     // standard deviation of one measurement; 0 if freedom is
  int64_t freedom = 0;  // its degrees of freedom; 0: nothing was measured twice yet
};

struct Bar {
  double value = 0;
  int64_t n = 0;  // measurements of the champion it rests on
};

enum class KeepRule {
  kEvidence,  // the rule above
  kGreedy,    // upstream's: strictly better than the measurement that made the champion
};

enum class Decision {
  kKept,
  kSimpler,  // kept: equal within the noise, and clearly less code
  kNoise,    // not kept, and can't be told from the champion
  kNo,       // not kept, worse by more than the noise
};

const char* name_of(Decision decision);  // "kept", "simpler", "noise", "no"
std::optional<Decision> decision_of(std::string_view name);

struct Judgement {
  Decision decision;
  double difference;  // d
  double sigma;       // as it was then
};

// As many code tokens fewer are clearly simpler: two lines or so.
constexpr int64_t kClearlyFewerTokens = 20;

Noise noise_of(const Evidence& evidence);
// The evidence must hold the baseline.
Bar bar_of(const Evidence& evidence, KeepRule rule = KeepRule::kEvidence);

// What becomes of a candidate that scored `y` and has `tokens_saved` code tokens fewer than the
// champion.
Judgement judge(const Evidence& evidence, double y, int64_t tokens_saved,
                KeepRule rule = KeepRule::kEvidence);

bool is_keep(Decision decision);

// The evidence after the champion (at first: the baseline) was measured once more.
void add_repeat(Evidence& evidence, double y);
// The evidence after a candidate was judged.
void add_candidate(Evidence& evidence, double y, const Judgement& judgement);

// How many fresh measurements of the champion are due when a slot is free: the baseline has three,
// a new champion one beside the one that made it, both another after every eight candidates without
// a keep. The greedy rule wants none.
int64_t repeats_owed(const Evidence& evidence, KeepRule rule = KeepRule::kEvidence);

// What each keep was worth, by the bars: one value a change, negative is better.
std::vector<double> gains_of(const Evidence& evidence);

// The seed of one measurement, below 2^48 so that every JSON reader keeps it. Measurements that
// differ in anything have other seeds; the same one has the same seed after a restart.
uint64_t seed_of(std::string_view tag, int64_t n, int64_t attempt);

}  // namespace autoresearch
