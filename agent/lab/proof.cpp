#include "agent/lab/proof.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <string>

#include "common/error.h"
#include "common/files.h"

namespace autoresearch {
namespace {

double real(size_t count) { return static_cast<double>(count); }

std::vector<std::vector<int64_t>> shuffled_blocks(int64_t count, int64_t arms,
                                                  std::string_view tag) {
  std::vector<std::vector<int64_t>> blocks;
  for (int64_t block = 0; block < count; ++block) {
    std::vector<std::pair<std::string, int64_t>> order;
    for (int64_t arm = 0; arm < arms; ++arm)
      order.emplace_back(sha256(fmt::format("{}\n{}\n{}", tag, block, arm)), arm);
    std::sort(order.begin(), order.end());
    blocks.emplace_back();
    for (const auto& [hash, arm] : order) blocks.back().push_back(arm);
  }
  return blocks;
}

// Marks those that pass: p_(k) <= k q / m for the largest such k, and all with a smaller p.
void benjamini_hochberg(std::vector<ChangeProof>& changes, double q) {
  std::vector<double> p;
  for (const ChangeProof& change : changes) p.push_back(change.p);
  std::sort(p.begin(), p.end());
  double limit = -1;
  for (size_t k = 0; k < p.size(); ++k)
    if (p[k] <= real(k + 1) * q / real(p.size())) limit = p[k];
  for (ChangeProof& change : changes) change.verified = change.p <= limit;
}

// What is left of a table's entries beside the means of its rows and of its columns.
double residual_squares(const std::vector<std::vector<double>>& rows,
                        const std::vector<double>& column_means) {
  const double all =
      std::accumulate(column_means.begin(), column_means.end(), 0.0) / real(column_means.size());
  double squares = 0;
  for (const std::vector<double>& row : rows) {
    const double mean = std::accumulate(row.begin(), row.end(), 0.0) / real(row.size());
    for (size_t i = 0; i < row.size(); ++i) {
      const double rest = row[i] - mean - column_means[i] + all;
      squares += rest * rest;
    }
  }
  return squares;
}

}  // namespace

ProofPlan plan_proof(int64_t budget, int64_t changes, std::string_view tag) {
  if (budget < 2 * kFewestPairs) return {};
  ProofPlan plan;
  const int64_t to_share = budget - 2 * kFewestPairs;  // if a change is in question
  int64_t blocks = std::max<int64_t>(kFewestPairs, std::lround(std::sqrt(to_share)));
  plan.variants = std::clamp<int64_t>(to_share / blocks - 2, 0, changes);
  plan.reserved_pairs = plan.variants > 0 ? kFewestPairs : 0;
  // Fewer changes than there is room for are measured more often.
  blocks = (plan.variants > 0 ? to_share : budget) / (plan.variants + 2);
  plan.blocks = shuffled_blocks(blocks, plan.variants + kFirstVariant, tag);
  return plan;
}

std::vector<std::vector<int64_t>> pairs_of(int64_t count, std::string_view tag) {
  return shuffled_blocks(count, kFirstVariant, std::string(tag) + "\npairs");
}

WholeGain whole_gain(const std::vector<ProofBlock>& pairs) {
  WholeGain gain;
  const double n = real(pairs.size());
  for (const ProofBlock& pair : pairs) gain.mean += (pair.tip - pair.baseline) / n;
  gain.low = gain.high = gain.mean;
  if (static_cast<int64_t>(pairs.size()) < kFewestPairs) return gain;
  double squares = 0;
  for (const ProofBlock& pair : pairs) {
    const double rest = pair.tip - pair.baseline - gain.mean;
    squares += rest * rest;
  }
  const double half = student_quantile(0.975, static_cast<int64_t>(pairs.size()) - 1) *
                      std::sqrt(squares / (n - 1) / n);
  gain.low -= half;
  gain.high += half;
  gain.verified = gain.high < 0;
  return gain;
}

Proof prove(const std::vector<ProofBlock>& blocks) {
  Proof proof;
  proof.whole = whole_gain(blocks);
  const size_t variants = blocks.empty() ? 0 : blocks.front().without.size();
  if (variants == 0 || blocks.size() < 2) return proof;
  // Column 0 is the tip, column i + 1 the tip without change i.
  std::vector<std::vector<double>> rows;
  std::vector<double> means(variants + 1);
  const double n = real(blocks.size());
  for (const ProofBlock& block : blocks) {
    check(block.without.size() == variants, "a block lacks a variant");
    rows.push_back({block.tip});
    rows.back().insert(rows.back().end(), block.without.begin(), block.without.end());
    for (size_t i = 0; i <= variants; ++i) means[i] += rows.back()[i] / n;
  }
  proof.freedom = static_cast<int64_t>((blocks.size() - 1) * variants);
  proof.sigma = std::sqrt(residual_squares(rows, means) / static_cast<double>(proof.freedom));
  for (size_t i = 1; i <= variants; ++i) {
    ChangeProof change;
    change.effect = means[i] - means[0];
    change.standard_error = proof.sigma * std::sqrt(2 / n);
    // Without any noise, any difference is proven.
    if (change.effect != 0) change.t = change.effect / change.standard_error;
    change.p = student_cdf(-change.t, proof.freedom);
    change.drop = change.effect < -change.standard_error;
    proof.changes.push_back(change);
  }
  benjamini_hochberg(proof.changes, kFalseShare);
  return proof;
}

double smallest_provable_effect(double sigma, int64_t blocks, int64_t variants) {
  const int64_t freedom = (blocks - 1) * variants;
  // The single change of its kind must pass at q / m; half of the tries would reach that alone.
  const double t = student_quantile(1 - kFalseShare / static_cast<double>(variants), freedom) +
                   student_quantile(0.8, freedom);
  return t * sigma * std::sqrt(2 / static_cast<double>(blocks));
}

// Finite sums for whole degrees of freedom: M. Abramowitz and I. Stegun, Handbook of Mathematical
// Functions, 26.7.3 and 26.7.4. They give A = P(|T| < |t|).
double student_cdf(double t, int64_t freedom) {
  check(freedom >= 1, "Student's t needs a degree of freedom");
  if (std::isinf(t)) return t > 0 ? 1 : 0;
  const double angle = std::atan(std::abs(t) / std::sqrt(static_cast<double>(freedom)));
  const double square = std::cos(angle) * std::cos(angle);
  const bool odd = freedom % 2 == 1;
  double term = odd ? std::cos(angle) : 1, sum = 0;
  for (int64_t k = odd ? 3 : 2; k <= freedom; k += 2) {
    sum += term;
    term *= square * static_cast<double>(k - 1) / static_cast<double>(k);
  }
  const double inside =
      odd ? 2 / std::numbers::pi * (angle + std::sin(angle) * sum) : std::sin(angle) * sum;
  return t > 0 ? (1 + inside) / 2 : (1 - inside) / 2;
}

double student_quantile(double p, int64_t freedom) {
  check(p > 0 && p < 1, "a quantile needs a share between 0 and 1");
  double low = -1, high = 1;
  while (student_cdf(low, freedom) > p) low *= 2;
  while (student_cdf(high, freedom) < p) high *= 2;
  for (int i = 0; i < 100; ++i) {
    const double middle = (low + high) / 2;
    (student_cdf(middle, freedom) < p ? low : high) = middle;
  }
  return (low + high) / 2;
}

}  // namespace autoresearch
