// Prove before dawn: which gains of a night are true, shown with fresh measurements only. Pure
// functions over plain values, so that the loop and its simulation (bench/nights.cpp) prove alike.
//
// The measurements come in blocks, each with one of the tip, one of the baseline and one of the tip
// without each change in question, in shuffled order; what is compared is compared within blocks,
// so that a machine which drifts through the night moves both sides (R. A. Fisher, The Design of
// Experiments, 1935). How many blocks there are is fixed before the first, and each arm is in each
// of them: n_i = n_0 = the number of blocks.
//
//   claim 1   the whole gain: tip - baseline in each block, Student's paired interval (95 %)
//   claim 2   single changes: t = (y_-i - y_tip) / (sigma sqrt(1/n_i + 1/n_0)) with y_-i the mean
//             without change i. sigma is what is left of the measurements of the tip and
//             its variants beside the mean of each and of each block, with (blocks - 1) variants
//             degrees of freedom. Verified are those that the procedure of Benjamini and Hochberg
//             lets pass at q = 2.5 % (J. R. Stat. Soc. B 57, 1995, p. 289), which holds although
//             all are compared with the same tip (Benjamini and Yekutieli, Ann. Stat. 29, 2001).
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace autoresearch {

constexpr int64_t kFewestPairs = 4;  // that claim 1 may rest on
constexpr double kFalseShare = 0.025;

// What one measurement of a block is of: the tip, the baseline, or from kFirstVariant on the tip
// without its largest change, its second largest, and so on.
enum Arm : int64_t { kTip, kBaseline, kFirstVariant };

struct ProofPlan {
  int64_t variants = 0;                      // changes in question, the largest ones
  std::vector<std::vector<int64_t>> blocks;  // the arms of each, in the order to measure them

  // Further pairs of tip and baseline, for a tip that loses a change. Not spent otherwise.
  int64_t reserved_pairs = 0;
};

// The plan for at most `budget` measurements and a tip with `changes` of them. About sqrt(budget)
// blocks, which is the best share for what all others are compared with (C. Dunnett, JASA 1955). No
// blocks: the budget is too small for claim 1. The order comes from `tag` alone.
ProofPlan plan_proof(int64_t budget, int64_t changes, std::string_view tag);

// So many further blocks of tip and baseline alone.
std::vector<std::vector<int64_t>> pairs_of(int64_t count, std::string_view tag);

struct ProofBlock {
  double tip, baseline;
  std::vector<double> without;  // the tip without each change in question
};

// The mean of differences, negative if it is a gain, and its 95 % interval.
struct WholeGain {
  double low = 0, mean = 0, high = 0;
  bool verified = false;  // at least kFewestPairs, and all of the interval is a gain
};

struct ChangeProof {
  double effect = 0;  // y_-i - y_tip: what the tip loses without it; positive if it helps
  double standard_error = 0, t = 0, p = 1;
  bool verified = false;
  bool drop = false;  // the tip measures better without it, by one standard error
};

struct Proof {
  WholeGain whole;
  std::vector<ChangeProof> changes;
  double sigma = 0;     // of one measurement within a block; 0: no change was in question
  int64_t freedom = 0;  // its degrees of freedom
};

// All blocks must be whole and have the same number of variants.
Proof prove(const std::vector<ProofBlock>& blocks);

// Claim 1 alone: for the pairs of a tip that lost a change. Variants are not looked at.
WholeGain whole_gain(const std::vector<ProofBlock>& pairs);

// The effect that claim 2 proves four times in five, for as many changes in question, each measured
// as often as the tip.
double smallest_provable_effect(double sigma, int64_t blocks, int64_t variants);

// Student's t: P(T < t) and its inverse, for at least one degree of freedom.
double student_cdf(double t, int64_t freedom);
double student_quantile(double p, int64_t freedom);

}  // namespace autoresearch
