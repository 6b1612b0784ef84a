// How good is the builtin proposer (agent/propose/tuner.h)? Simulated nights, judged by the loop's
// own keep rule (agent/lab/evidence.h), on the knobs of train.cpp that count on a CPU, beside
//
//   random moves   the steps that the builtin proposer knows, the next one drawn blindly
//   random search  every knob drawn anew around its value in train.cpp (J. Bergstra, Y. Bengio,
//                  Random search for hyper-parameter optimization, JMLR 13, 2012)
//   TPE            tree-structured Parzen estimators (J. Bergstra, R. Bardenet, Y. Bengio, B. Kegl,
//                  Algorithms for hyper-parameter optimization, NIPS 24, 2011), with the constants
//                  of Hyperopt: 20 random points first, 24 draws a knob
//   TPE, local     the same estimators, from the first point on, but only the four knobs that
//                  promise most leave the champion's value (one, two or eight are worse)
//
// Every night has a world of its own: where each knob is best, how much it matters (a few do, most
// hardly), how pairs of knobs lean on each other, and where a run crashes. Both directions of a
// knob are equally good on average, so what the builtin proposer believes beforehand about
// directions and about names neither helps nor hurts it. Prints the true loss that the champion
// could still lose, after so many experiments, with its standard error; the repeats of the champion
// that the keep rule asks for are no experiments.
//
//   build/bench/tuner [nights a cell, 100] [seed, 1]

#include "agent/propose/tuner.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "agent/edit/constants.h"
#include "agent/edit/edit.h"
#include "agent/lab/evidence.h"
#include "common/error.h"
#include "common/files.h"
#include "common/text.h"

using namespace autoresearch;

namespace {

constexpr std::array kLooks = {20, 50, 100};  // experiments
constexpr double kAvailable = 0.03;           // bits per byte that a night can gain, on average
constexpr int kThreads = 2;

using Random = std::mt19937_64;

double normal(Random& random, double spread = 1) {
  return std::normal_distribution(0.0, spread)(random);
}

// ------------------------------------------------------------------------------------------------
// The knobs, as coordinates: 0 is the value in train.cpp, 1 is a bold step

struct Axis {
  Knob knob;
  enum Kind { kLog, kDecay, kShare, kPattern } kind = kLog;
  bool whole = false, power_of_two = false;
  double origin = 0;

  bool has(const char* part) const { return knob.name.find(part) != std::string::npos; }
};

constexpr std::array kPatterns = {"\"L\"", "\"SL\"", "\"SSL\"", "\"SSSL\"", "\"S\""};

double coordinate(const Axis& axis, const std::string& value) {
  if (axis.kind == Axis::kPattern)
    return static_cast<double>(std::find(kPatterns.begin(), kPatterns.end(), value) -
                               kPatterns.begin());
  const double x = evaluate(value).value();
  if (axis.kind == Axis::kShare) return 4 * x - axis.origin;
  if (axis.kind == Axis::kDecay) return -std::log2(1 - x) - axis.origin;
  return std::log2(std::max(x, 1e-12)) - axis.origin;
}

// The nearest value that the knob can have, as text.
std::string value_at(const Axis& axis, double z) {
  if (axis.kind == Axis::kPattern) return kPatterns[static_cast<size_t>(z)];
  z += axis.origin;
  if (axis.kind == Axis::kShare) return fmt::format("{:.3g}", std::clamp(z / 4, 0.0, 1.0));
  if (axis.kind == Axis::kDecay)
    return fmt::format("{:.4g}", std::clamp(1 - std::exp2(-z), 0.01, 0.9999));
  if (axis.power_of_two) return fmt::format("{:.0f}", std::exp2(std::max(4.0, std::round(z))));
  if (axis.whole) return fmt::format("{:.0f}", std::max(1.0, std::round(std::exp2(z))));
  return fmt::format("{:.3g}", std::exp2(z));
}

Axis axis_of(const Knob& knob) {
  Axis axis{.knob = knob};
  axis.whole = knob.type.find("int") != std::string::npos;
  if (knob.value[0] == '"') axis.kind = Axis::kPattern;
  if (axis.has("Warm") || axis.has("Final") || axis.has("ShortWindow")) axis.kind = Axis::kShare;
  if (!axis.whole && (axis.has("Beta") || axis.has("Momentum"))) axis.kind = Axis::kDecay;
  if (axis.kind != Axis::kPattern) axis.origin = coordinate(axis, knob.value);
  axis.power_of_two = axis.whole && axis.origin >= 4 && axis.origin == std::floor(axis.origin);
  return axis;
}

// train.cpp's section of hyperparameters alone: knobs are found in it much faster.
std::string section_of(const std::string& source) {
  const size_t begin = source.rfind("\n// ---", source.find("// Hyperparameters")) + 1;
  return source.substr(begin, source.find("// Configuration", begin) - begin) + "int after;\n";
}

// By knob, in the order of the axes.
using Point = std::vector<double>;

Point point_of(const std::vector<Axis>& axes, const std::string& source) {
  std::map<std::string, std::string> values;
  for (const Knob& knob : find_knobs(source)) values[knob.name] = knob.value;
  Point point;
  for (const Axis& axis : axes) point.push_back(coordinate(axis, values.at(axis.knob.name)));
  return point;
}

std::string source_at(const std::vector<Axis>& axes, const std::string& first, const Point& point) {
  std::vector<std::string> lines = split_lines(first);
  for (size_t i = 0; i < axes.size(); ++i) {
    std::string& line = lines[axes[i].knob.line];
    const std::string& old = axes[i].knob.value;
    line.replace(line.find(old, line.find('=')), old.size(), value_at(axes[i], point[i]));
  }
  std::string source;
  for (const std::string& line : lines) source += line + "\n";
  return source;
}

// ------------------------------------------------------------------------------------------------
// The truth

class World {
 public:
  World(const std::vector<Axis>& axes, Random& random) : axes_(axes) {
    for (const Axis& axis : axes) {
      best_.push_back(axis.kind == Axis::kPattern ? 0 : normal(random, 0.8));
      weights_.push_back(axis.has("Micro") ? 0 : std::exp(normal(random, 1.3)));
    }
    for (double& level : patterns_) level = std::abs(normal(random));
    patterns_[static_cast<size_t>(random() % patterns_.size())] = 0;
    lean(random, "TotalBatch", {"MatrixLr", "EmbeddingLr", "AdamBeta2", "Depth"});
    lean(random, "MatrixLr", {"Warmdown", "MomentumEnd", "WeightDecay"});
    lean(random, "HeadLr", {"HeadInit", "Softcap"});
    lean(random, "Depth", {"Aspect"});
  }

  // What a run loses against the best of all runs, bits per byte; nothing for a crash: a rate at
  // which it diverges, a size that does not fit into memory or time.
  std::optional<double> loss(const Point& point) const {
    double square = 0;
    std::vector<double> away(axes_.size());
    for (size_t i = 0; i < axes_.size(); ++i) {
      const Axis& axis = axes_[i];
      const bool pattern = axis.kind == Axis::kPattern;
      away[i] = pattern ? patterns_[static_cast<size_t>(point[i])] : point[i] - best_[i];
      square += weights_[i] * away[i] * away[i];
      if (axis.knob.name.ends_with("Lr") && axis.kind == Axis::kLog && away[i] > 3)
        return std::nullopt;
      const bool size = axis.has("Depth") || axis.has("Aspect") || axis.has("TotalBatch");
      if (size && point[i] > 2.5) return std::nullopt;
    }
    for (const Pair& pair : pairs_)
      square +=
          pair.by * std::sqrt(weights_[pair.a] * weights_[pair.b]) * away[pair.a] * away[pair.b];
    // Far from the best, one step more costs no more than the step before it. The factor makes
    // train.cpp's own loss kAvailable on average.
    return kAvailable / 5.6 * (std::sqrt(1 + std::max(0.0, square)) - 1);
  }

 private:
  struct Pair {
    size_t a, b;
    double by;  // with so few of a knob, and these at most a quarter, the best point stays the best
  };

  void lean(Random& random, const char* on, const std::vector<const char*>& parts) {
    const auto index = [&](const char* part) {
      const auto axis = std::find_if(axes_.begin(), axes_.end(),
                                     [&](const Axis& axis) { return axis.has(part); });
      return static_cast<size_t>(axis - axes_.begin());
    };
    for (const char* part : parts)
      pairs_.push_back({index(on), index(part), random() % 2 ? 0.45 : -0.45});
  }

  const std::vector<Axis>& axes_;
  Point best_;
  std::vector<double> weights_;
  std::array<double, kPatterns.size()> patterns_;
  std::vector<Pair> pairs_;
};

struct Machine {
  const char* name;
  double sigma;
  bool heavy_tailed = false;  // Student's t with 3 degrees of freedom, scaled to sigma
};

// ------------------------------------------------------------------------------------------------
// Who proposes

// What a night knows.
struct Known {
  std::string first, champion;    // sources
  std::vector<Past> past;         // with the baseline
  std::vector<Point> points;      // of each
  std::vector<double> figures;    // infinite: a crash
  std::set<std::string> sources;  // that were measured
};

struct Idea {
  std::string words, source;
};

// The next proposal; nothing if there is none left.
using Proposer = std::optional<Idea> (*)(const std::vector<Axis>&, const Known&, Random&);

std::optional<Idea> builtin(const std::vector<Axis>&, const Known& known, Random&) {
  const auto reply =
      propose_by_tuning(known.champion, known.past, known.past.size(), "cpu",
                        [&](const std::string& source) { return known.sources.contains(source); });
  if (!reply) return std::nullopt;
  auto edit = std::get<Edit>(apply_reply(known.champion, *reply, false, false));
  return Idea{edit.proposal.idea, edit.source};
}

bool differ_in_one_line(const std::string& a, const std::string& b) {
  const std::vector<std::string> one = split_lines(a), other = split_lines(b);
  size_t lines = 0;
  for (size_t i = 0; i < one.size(); ++i) lines += one[i] != other[i];
  return lines == 1;
}

// The builtin proposer is told of everything that it was measured, and so tells what it knows.
std::optional<Idea> random_moves(const std::vector<Axis>&, const Known& known, Random& random) {
  std::vector<std::string> moves;
  propose_by_tuning(known.champion, {}, 1, "cpu", [&](const std::string& source) {
    if (!known.sources.contains(source) && differ_in_one_line(known.champion, source))
      moves.push_back(source);
    return true;
  });
  if (moves.empty()) return std::nullopt;
  return Idea{"", moves[random() % moves.size()]};
}

double drawn(const Axis& axis, Random& random) {
  if (axis.kind == Axis::kPattern) return static_cast<double>(random() % kPatterns.size());
  return normal(random);
}

Idea idea_at(const std::vector<Axis>& axes, const Known& known, const Point& point) {
  return {"", source_at(axes, known.first, point)};
}

std::optional<Idea> random_search(const std::vector<Axis>& axes, const Known& known,
                                  Random& random) {
  Point point;
  for (const Axis& axis : axes) point.push_back(drawn(axis, random));
  return idea_at(axes, known, point);
}

// The density of some points on one axis: a bell on each, as wide as the farther of the gaps beside
// it, and one for what was believed beforehand.
class Parzen {
 public:
  Parzen(const Axis& axis, std::vector<double> points) : axis_(axis) {
    std::sort(points.begin(), points.end());
    const auto n = static_cast<double>(points.size());
    const double narrowest = 1 / std::min(100.0, n + 2);
    for (size_t i = 0; i < points.size(); ++i) {
      const double before = i > 0 ? points[i] - points[i - 1] : 0;
      const double after = i + 1 < points.size() ? points[i + 1] - points[i] : 0;
      bells_.push_back({points[i], std::clamp(std::max(before, after), narrowest, 1.0)});
    }
    bells_.push_back({0, 1});
  }

  double at(double x) const {
    double sum = 0;
    if (axis_.kind == Axis::kPattern) {
      for (size_t i = 0; i + 1 < bells_.size(); ++i) sum += bells_[i].middle == x;
      return (sum + 1.0 / kPatterns.size()) / static_cast<double>(bells_.size());
    }
    for (const Bell& bell : bells_)
      sum += std::exp(-0.5 * std::pow((x - bell.middle) / bell.width, 2)) / bell.width;
    return sum / static_cast<double>(bells_.size());
  }

  double draw(Random& random) const {
    const size_t i = random() % bells_.size();
    if (axis_.kind != Axis::kPattern) return bells_[i].middle + normal(random, bells_[i].width);
    return i + 1 == bells_.size() ? drawn(axis_, random) : bells_[i].middle;
  }

 private:
  struct Bell {
    double middle, width;
  };
  const Axis& axis_;
  std::vector<Bell> bells_;
};

// What one axis promises most: a place, and how much likelier it is among good points than among
// bad ones, compared with where the champion stands.
struct Promise {
  size_t axis;
  double place, worth;
};

// Moves the knobs that promise most; 0: all, wherever the champion stands.
Idea by_estimators(const std::vector<Axis>& axes, const Known& known, Random& random,
                   size_t knobs) {
  constexpr int kDraws = 24;
  const size_t n = known.points.size();
  std::vector<size_t> order(n);
  for (size_t i = 0; i < n; ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return known.figures[a] < known.figures[b]; });
  const double wanted = std::min(25.0, std::ceil(0.25 * std::sqrt(static_cast<double>(n))));
  const auto good = static_cast<std::ptrdiff_t>(wanted);
  Point point = point_of(axes, known.champion);
  std::vector<Promise> promises;
  for (size_t i = 0; i < axes.size(); ++i) {
    std::vector<double> places;
    for (const size_t k : order) places.push_back(known.points[k][i]);
    const Parzen better(axes[i], {places.begin(), places.begin() + good});
    const Parzen worse(axes[i], {places.begin() + good, places.end()});
    const auto worth = [&](double x) { return std::log(better.at(x) / worse.at(x)); };
    Promise promise{i, point[i], -INFINITY};
    for (int draw = 0; draw < kDraws; ++draw) {
      // Rounded as the knob rounds it: a change that is none promises nothing.
      const double x = coordinate(axes[i], value_at(axes[i], better.draw(random)));
      if (knobs > 0 && std::abs(x - point[i]) < 0.05) continue;
      if (worth(x) > promise.worth) promise = {i, x, worth(x)};
    }
    if (knobs > 0) promise.worth -= worth(point[i]);
    promises.push_back(promise);
  }
  if (knobs > 0)
    std::stable_sort(promises.begin(), promises.end(),
                     [](const Promise& a, const Promise& b) { return a.worth > b.worth; });
  for (size_t i = 0; i < (knobs > 0 ? knobs : axes.size()); ++i)
    point[promises[i].axis] = promises[i].place;
  return idea_at(axes, known, point);
}

std::optional<Idea> tpe(const std::vector<Axis>& axes, const Known& known, Random& random) {
  constexpr size_t kRandomFirst = 20;
  if (known.points.size() < kRandomFirst) return random_search(axes, known, random);
  return by_estimators(axes, known, random, 0);
}

std::optional<Idea> local_tpe(const std::vector<Axis>& axes, const Known& known, Random& random) {
  return by_estimators(axes, known, random, 4);
}

// ------------------------------------------------------------------------------------------------
// Nights

using Looks = std::array<double, kLooks.size()>;

class Night {
 public:
  Night(const std::vector<Axis>& axes, const std::string& source, const Machine& machine,
        uint64_t seed)
      : axes_(axes), machine_(machine), random_(seed), world_(axes, random_), luck_(seed + 1) {
    known_.first = known_.champion = source;
    truth_ = *world_.loss(point_of(axes, source));
    add_repeat(evidence_, measured(truth_));
    record({"baseline", source}, "keep", evidence_.repeats[0][0], 0);
  }

  // True losses of the champion.
  Looks play(Proposer proposer) {
    Looks looks{};
    for (int n = 1, look = 0; n <= kLooks.back(); ++n) {
      while (repeats_owed(evidence_) > 0) add_repeat(evidence_, measured(truth_));
      if (const auto idea = proposer(axes_, known_, luck_)) judge_idea(*idea);
      if (n == kLooks[static_cast<size_t>(look)]) looks[static_cast<size_t>(look++)] = truth_;
    }
    return looks;
  }

 private:
  double measured(double truth) {
    const double t = std::student_t_distribution<double>(3)(random_) / std::sqrt(3.0);
    return truth + machine_.sigma * (machine_.heavy_tailed ? t : normal(random_));
  }

  void record(const Idea& idea, const char* status, double figure, double change) {
    Past past;
    past.n = static_cast<int64_t>(known_.past.size());
    past.status = status, past.bpb = figure, past.change = change, past.idea = idea.words;
    known_.past.push_back(past);
    known_.points.push_back(point_of(axes_, idea.source));
    known_.figures.push_back(figure);
    known_.sources.insert(idea.source);
  }

  void judge_idea(const Idea& idea) {
    const auto truth = world_.loss(point_of(axes_, idea.source));
    if (!truth) return record(idea, "crash", INFINITY, 0);
    const double y = measured(*truth);
    const Judgement verdict = judge(evidence_, y, 0);
    const bool keep = is_keep(verdict.decision);
    add_candidate(evidence_, y, verdict);
    record(idea, keep ? "keep" : "discard", y, verdict.difference);
    if (!keep) return;
    truth_ = *truth;
    known_.champion = idea.source;
  }

  const std::vector<Axis>& axes_;
  const Machine& machine_;
  Random random_;
  World world_;
  Random luck_;  // the proposer's
  Known known_;
  Evidence evidence_;
  double truth_ = 0;
};

// Mean and standard error, 1e-3 bits per byte.
std::string in_words(const std::vector<double>& losses) {
  double sum = 0, squares = 0;
  const auto n = static_cast<double>(losses.size());
  for (const double loss : losses) sum += loss, squares += loss * loss;
  const double mean = sum / n, variance = std::max(0.0, squares / n - mean * mean);
  return fmt::format(" {:.2f} ± {:.2f} |", 1e3 * mean, 1e3 * std::sqrt(variance / n));
}

void print_row(const Machine& machine, const char* name, Proposer proposer, int nights,
               uint64_t seed, const std::vector<Axis>& axes, const std::string& source) {
  std::vector<Looks> all(static_cast<size_t>(nights));
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([&, t] {
      // Night i has the same world for every proposer.
      for (int i = t; i < nights; i += kThreads)
        all[static_cast<size_t>(i)] =
            Night(axes, source, machine, seed + 1'000'003 * static_cast<uint64_t>(i))
                .play(proposer);
    });
  for (std::thread& thread : threads) thread.join();
  std::printf("| %s | %s |", machine.name, name);
  for (size_t look = 0; look < kLooks.size(); ++look) {
    std::vector<double> losses;
    for (const Looks& looks : all) losses.push_back(looks[look]);
    std::printf("%s", in_words(losses).c_str());
  }
  std::printf("\n");
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) try {
  const int nights = argc > 1 ? std::stoi(argv[1]) : 100;
  const uint64_t seed = argc > 2 ? std::stoull(argv[2]) : 1;
  check(nights > 0, "usage: tuner [nights] [seed]");
  const std::string source = section_of(read_file(SOURCE_DIR "/train.cpp"));
  std::vector<Axis> axes;
  for (const Knob& knob : find_knobs(source))
    if (knob.name.find("Gpu") == std::string::npos) axes.push_back(axis_of(knob));
  std::vector<double> first;
  for (int i = 0; i < nights; ++i) {
    Random random(seed + 1'000'003 * static_cast<uint64_t>(i));
    first.push_back(*World(axes, random).loss(Point(axes.size())));
  }
  std::printf("%d nights a cell, seed %llu, %zu knobs; 1e-3 bits per byte above the best point;\n",
              nights, static_cast<unsigned long long>(seed), axes.size());
  std::printf("train.cpp as it is: %s\n\n| noise | proposer |", in_words(first).c_str());
  for (const int look : kLooks) std::printf(" %d experiments |", look);
  std::printf("\n|---|---|---|---|---|\n");
  const Machine machines[] = {
      {"3e-4", 3e-4}, {"1e-3", 1e-3}, {"3e-3", 3e-3}, {"1e-3, heavy tails", 1e-3, true}};
  const std::pair<const char*, Proposer> proposers[] = {{"builtin", builtin},
                                                        {"random moves", random_moves},
                                                        {"random search", random_search},
                                                        {"TPE", tpe},
                                                        {"TPE, local", local_tpe}};
  for (const Machine& machine : machines)
    for (const auto& [name, proposer] : proposers)
      print_row(machine, name, proposer, nights, seed, axes, source);
  return 0;
} catch (const std::exception& error) {
  std::cerr << "tuner: error: " << error.what() << "\n";
  return 1;
}
