#include "agent/propose/tuner.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <random>
#include <string_view>

#include "agent/edit/constants.h"
#include "agent/edit/cpp_tokens.h"
#include "common/text.h"

namespace autoresearch {
namespace {

// ------------------------------------------------------------------------------------------------
// Values

bool is_power_of_two(double x) {
  int exponent = 0;
  return x >= 1 && std::frexp(x, &exponent) == 0.5;
}

// Three significant digits, as a user would write them.
std::string written(double value, bool integer) {
  char text[64];
  const bool plain = integer || std::fabs(value) >= 1000;
  std::snprintf(text, sizeof text, plain ? "%.0f" : "%.3g", value);
  return text;
}

// In the style of the old value: a shift stays a shift, 0.5f keeps its f.
std::string written_like(const std::string& old, double value, bool integer) {
  if (old.find("<<") != std::string::npos && is_power_of_two(value)) {
    return "1 << " + std::to_string(std::ilogb(value));
  }
  const bool has_suffix = !integer && (old.back() == 'f' || old.back() == 'F');
  return written(value, integer) + (has_suffix ? "f" : "");
}

// ------------------------------------------------------------------------------------------------
// Kinds of knobs, known by their names

bool has(const Knob& knob, std::string_view part) {
  return knob.name.find(part) != std::string::npos;
}

bool is_integer(const Knob& knob) {
  return knob.type.find("int") != std::string::npos ||
         knob.type.find("size_t") != std::string::npos;
}

// A weight of the past that works by its distance from 1: momentum and Adam's betas.
bool is_decay(const Knob& knob) { return has(knob, "Beta") || has(knob, "Momentum"); }

// A share of something, in [0, 1], that is changed by steps and may be 0.
bool is_share(const Knob& knob) {
  return has(knob, "Warm") || has(knob, "Final") || has(knob, "Frac") || has(knob, "ShortWindow");
}

// For which device a knob is, where its name says so.
bool relevant(const Knob& knob, const std::string& device) {
  const bool for_cpu = has(knob, "Cpu"), for_gpu = has(knob, "Gpu") || has(knob, "Cuda");
  if (device == "cpu") return !for_gpu;
  return !for_cpu;
}

// How likely a change pays, before anything is known: rates and schedule first, then the balance of
// steps and size, then the rest. `up`: towards larger values.
struct Prior {
  std::string_view part;
  double up, down;
};

// The first row whose part occurs in the name. Short runs profit from higher rates, and from
// smaller batches where these buy more steps; large changes of size rarely pay.
constexpr std::array<Prior, 27> kPriors = {{{"FinalLr", 0.35, 0.2},
                                            {"HeadLr", 1, 0.4},
                                            {"EmbeddingLr", 0.85, 0.6},
                                            {"MatrixLr", 0.95, 0.6},
                                            {"X0Lr", 0.3, 0.4},
                                            {"ResidLr", 0.4, 0.2},
                                            {"Lr", 0.6, 0.6},
                                            {"Warmdown", 0.5, 0.55},
                                            {"Warmup", 0.35, 0.1},
                                            {"TotalBatch", 0.4, 0.85},
                                            {"Depth", 0.45, 0.4},
                                            {"Aspect", 0.4, 0.4},
                                            {"MomentumRamp", 0.3, 0.35},
                                            {"Momentum", 0.3, 0.3},
                                            {"X0Beta", 0.1, 0.1},
                                            {"Beta2", 0.45, 0.4},
                                            {"Beta1", 0.4, 0.35},
                                            {"WeightDecay", 0.3, 0.5},
                                            {"PolarSteps", 0.2, 0.4},
                                            {"MlpRatio", 0.35, 0.35},
                                            {"Softcap", 0.3, 0.25},
                                            {"Init", 0.35, 0.3},
                                            {"Rope", 0.3, 0.35},
                                            {"ShortWindow", 0.2, 0.25},
                                            {"HeadDim", 0.15, 0.2},
                                            {"Eps", 0.1, 0.1},
                                            {"MicroBatch", 0.05, 0.05}}};

double prior(const Knob& knob, bool up) {
  for (const Prior& row : kPriors) {
    if (has(knob, row.part)) return up ? row.up : row.down;
  }
  return 0.25;
}

// ------------------------------------------------------------------------------------------------
// Moves: one knob, one new value

struct Move {
  const Knob* knob;
  std::string value;
  int direction;  // +1 up, -1 down, 0 neither (switches and patterns)
  double size;    // how bold: 1 is a doubling, or what compares with it
  double score = 0;
};

// The bound that a comment states: "at most 5".
std::optional<double> bound(const Knob& knob, const std::string& words) {
  const size_t at = knob.comment.find(words);
  if (at == std::string::npos) return std::nullopt;
  const std::string rest = trim(knob.comment.substr(at + words.size()));
  double value = 0;
  const auto result = std::from_chars(rest.data(), rest.data() + rest.size(), value);
  return result.ec == std::errc() ? std::optional(value) : std::nullopt;
}

bool in_range(const Knob& knob, double value) {
  if (!std::isfinite(value) || value < bound(knob, "at least").value_or(-INFINITY) ||
      value > bound(knob, "at most").value_or(INFINITY)) {
    return false;
  }
  if (is_integer(knob)) return value >= (has(knob, "HeadDim") ? 16 : 1) && value <= (1 << 22);
  if (is_decay(knob)) return value > 0 && value < 1;
  if (is_share(knob)) return value >= 0 && value <= 1;
  return value > 0 || (value == 0 && has(knob, "Decay"));
}

struct Step {
  double value, size;
};

std::vector<Step> integer_steps(const Knob& knob, double x) {
  const bool size = !has(knob, "Depth") && !has(knob, "Steps") && !has(knob, "Ratio");
  // A width's quotient moves by halves: a finer step is lost when the width is rounded to heads.
  if (has(knob, "Aspect")) return {{x * 2, 1}, {x * 1.5, 0.6}, {x / 2, 1}, {x * 0.75, 0.4}};
  if (size && is_power_of_two(x) && x >= 4) return {{x * 2, 1}, {x / 2, 1}};
  if (x < 32) return {{x + 1, 0.5}, {x - 1, 0.5}, {x + 2, 1}, {x - 2, 1}};
  return {{x * 2, 1}, {x / 2, 1}, {std::round(x / 4), 2}};
}

std::vector<Step> real_steps(const Knob& knob, double x) {
  if (is_decay(knob)) {
    const double far = 1 - x;
    return {{1 - far / 1.5, 0.6}, {1 - far * 1.5, 0.6}, {1 - far / 2.5, 1.2}, {1 - far * 2.5, 1.2}};
  }
  if (is_share(knob)) return {{x + 0.1, 0.5}, {x - 0.1, 0.5}, {x + 0.25, 1}, {x - 0.25, 1}};
  if (has(knob, "Eps")) return {{x * 100, 1}, {x / 100, 1}};
  std::vector<Step> steps = {{x * 1.4, 0.5}, {x * 0.7, 0.5}, {x * 2, 1}, {x * 0.5, 1}};
  if (has(knob, "Decay")) steps.push_back({0, 1.2});
  return steps;
}

void add_moves(const Knob& knob, std::vector<Move>& moves) {
  if (knob.value == "true" || knob.value == "false") {
    moves.push_back({&knob, knob.value == "true" ? "false" : "true", 0, 1});
    return;
  }
  const bool quoted = knob.value.size() > 2 && knob.value.front() == '"';
  if (quoted && knob.value.find_first_not_of("SL\"") == std::string::npos) {
    for (const char* pattern : {"\"L\"", "\"SL\"", "\"SSL\"", "\"SSSL\"", "\"S\""}) {
      if (pattern != knob.value) moves.push_back({&knob, pattern, 0, 1});
    }
    return;
  }
  const std::optional<double> x = evaluate(knob.value);
  if (!x) return;
  const bool integer = is_integer(knob);
  for (const Step& step : integer ? integer_steps(knob, *x) : real_steps(knob, *x)) {
    const std::string value = written_like(knob.value, step.value, integer);
    const double exact = evaluate(value).value_or(NAN);  // after rounding
    if (exact == *x || !in_range(knob, exact)) continue;
    moves.push_back({&knob, value, exact > *x ? 1 : -1, step.size});
  }
}

// ------------------------------------------------------------------------------------------------
// Learning from what was tried

struct Trial {
  std::string name;
  int direction;
  double size;  // of the change: |log2(new / old)|
  bool kept, alone;
};

double size_of(double from, double to) {
  return from > 0 && to > 0 ? std::fabs(std::log2(to / from)) : 1;
}

// "kName old -> new", as this proposer words its ideas.
std::optional<Trial> trial_of(const std::string& part, const Past& experiment, bool alone) {
  const size_t blank = part.find(' '), arrow = part.find(" -> ");
  if (!part.starts_with("k") || arrow == std::string::npos || arrow <= blank) return std::nullopt;
  const auto from = evaluate(part.substr(blank, arrow - blank)),
             to = evaluate(part.substr(arrow + 4));
  const int direction = !from || !to ? 0 : *to > *from ? 1 : -1;
  const double size = from && to ? size_of(*from, *to) : 1;
  return Trial{part.substr(0, blank), direction, size, experiment.status == "keep", alone};
}

// Oldest first; ideas in other words teach nothing here.
std::vector<Trial> trials_of(const std::vector<Past>& past) {
  std::vector<Trial> trials;
  for (const Past& experiment : past) {
    const std::string& idea = experiment.idea;
    const bool alone = idea.find(", ") == std::string::npos;
    for (size_t begin = 0; begin < idea.size();) {
      const size_t end = std::min(idea.find(", ", begin), idea.size());
      const auto trial = trial_of(idea.substr(begin, end - begin), experiment, alone);
      if (trial) trials.push_back(*trial);
      begin = end + 2;
    }
  }
  return trials;
}

// A factor on the prior. Following a direction that won comes before everything untried; once it
// lost, it was followed far enough.
double experience(const Move& move, double move_size, const std::vector<Trial>& trials) {
  double factor = 1;
  for (const Trial& trial : trials) {
    if (trial.name != move.knob->name) continue;
    const double weight = trial.alone ? 1 : 0.5;  // of two changes, either may be to blame
    const bool same = trial.direction == move.direction;
    if (trial.kept) {
      factor *= same ? std::pow(2.5, weight) : 0.3;
    } else if (!same) {
      factor *= std::pow(1.2, weight);  // the best value may lie on the other side
    } else {
      const bool bolder = move_size >= 0.9 * trial.size;
      factor *= std::pow(bolder ? 0.15 : 0.5, weight);
    }
    factor = std::clamp(factor, 0.001, 4.0);
  }
  return factor;
}

// False for a width per layer whose width is the present one after rounding up to whole heads: the
// knobs named kCpuAspect, kCpuDepth and kCpuHeadDim belong together, and so on.
bool changes_width(const std::vector<Knob>& knobs, const Move& move) {
  if (!has(*move.knob, "Aspect")) return true;
  const std::string family = move.knob->name.substr(0, move.knob->name.find("Aspect"));
  const auto sibling = [&](const std::string& part) {
    const auto knob = std::find_if(knobs.begin(), knobs.end(),
                                   [&](const Knob& k) { return k.name == family + part; });
    return knob == knobs.end() ? 1 : evaluate(knob->value).value_or(1);
  };
  const double per_head = sibling("Depth") / sibling("HeadDim");
  const auto heads = [&](const std::string& aspect) {
    return std::ceil(evaluate(aspect).value_or(1) * per_head);
  };
  return heads(move.knob->value) != heads(move.value);
}

// All moves, the most promising first.
std::vector<Move> ranked_moves(const std::vector<Knob>& knobs, const std::vector<Past>& past,
                               uint64_t seed, const std::string& device) {
  std::vector<Move> moves;
  for (const Knob& knob : knobs) {
    if (relevant(knob, device)) add_moves(knob, moves);
  }
  std::erase_if(moves, [&](const Move& move) { return !changes_width(knobs, move); });
  const std::vector<Trial> trials = trials_of(past);
  std::mt19937_64 random(seed * 0x9E3779B97F4A7C15u + 1);
  for (Move& move : moves) {
    const auto from = evaluate(move.knob->value), to = evaluate(move.value);
    const double size = from && to ? size_of(*from, *to) : 1;
    // Noise of a tenth lets two runs differ and breaks ties; bold moves come a little later.
    const double noise = 0.9 + 0.2 * static_cast<double>(random() >> 11) / (1ull << 53);
    const double caution = 1 / (0.85 + 0.3 * move.size);
    move.score =
        prior(*move.knob, move.direction > 0) * experience(move, size, trials) * noise * caution;
  }
  std::stable_sort(moves.begin(), moves.end(),
                   [](const Move& a, const Move& b) { return a.score > b.score; });
  return moves;
}

// ------------------------------------------------------------------------------------------------
// From moves to a reply

std::string changed_line(const std::string& line, const Move& move) {
  const size_t at = line.find(move.knob->value, line.find('='));
  std::string changed = line;
  return changed.replace(at, move.knob->value.size(), move.value);
}

std::string changed_source(const std::vector<std::string>& lines, const std::vector<Move>& moves) {
  std::string source;
  for (size_t i = 0; i < lines.size(); ++i) {
    std::string line = lines[i];
    for (const Move& move : moves) {
      if (move.knob->line == i) line = changed_line(line, move);
    }
    source += line + "\n";
  }
  return source;
}

// Schedules whose parts would overlap are no schedule.
bool consistent(const std::vector<Knob>& knobs, const std::vector<Move>& moves) {
  double share = 0;
  for (const Knob& knob : knobs) {
    std::string value = knob.value;
    for (const Move& move : moves) {
      if (move.knob->name == knob.name) value = move.value;
    }
    if (has(knob, "Warm")) share += evaluate(value).value_or(0);
  }
  return share <= 1;
}

// Lines [first, last) around the moves' lines: one block, at least three lines long. The name of a
// constant makes it unique.
std::string block(const std::vector<std::string>& lines, const std::vector<std::string>& changed,
                  size_t first, size_t last) {
  std::string search, replace;
  for (size_t i = first; i < last; ++i) {
    search += lines[i] + "\n";
    replace += changed[i] + "\n";
  }
  return "<<<<<<< SEARCH\n" + search + "=======\n" + replace + ">>>>>>> REPLACE\n";
}

std::string reply_for(const std::vector<std::string>& lines, const std::vector<Move>& moves) {
  const std::vector<std::string> changed = split_lines(changed_source(lines, moves));
  std::string idea, blocks;
  std::vector<std::pair<size_t, size_t>> ranges;
  for (const Move& move : moves) {
    idea +=
        (idea.empty() ? "" : ", ") + move.knob->name + " " + move.knob->value + " -> " + move.value;
    // The section's banner stands above every knob, and code below it.
    ranges.push_back({move.knob->line - 1, move.knob->line + 2});
  }
  std::sort(ranges.begin(), ranges.end());
  for (size_t i = 0; i < ranges.size(); ++i) {
    auto [first, last] = ranges[i];
    while (i + 1 < ranges.size() && ranges[i + 1].first < last) last = ranges[++i].second;
    blocks += block(lines, changed, first, last);
  }
  return "IDEA: " + idea +
         "\nWHY: The builtin proposer follows directions that won and leaves those that lost.\n" +
         blocks;
}

// The constant that a line defines, if it is one whole definition: constexpr type kName = value;
std::optional<Knob> knob_of(const std::string& line, size_t number) {
  const std::vector<std::string> tokens = code_tokens(line);
  const auto equals = std::find(tokens.begin(), tokens.end(), "=");
  if (tokens.size() < 6 || tokens[0] != "constexpr" || equals == tokens.end()) return std::nullopt;
  auto name = equals - 1;
  if (*name == "]" && name - tokens.begin() > 2) name -= 2;  // kName[]
  const size_t value = line.find('=') + 1, end = line.find(';', value);
  if (!name->starts_with("k") || end == std::string::npos) return std::nullopt;
  std::string type;
  for (auto token = tokens.begin() + 1; token != name; ++token) type += *token;
  return Knob{*name, type, trim(line.substr(value, end - value)), number,
              trim(line.substr(end + 1))};
}

}  // namespace

std::vector<Knob> find_knobs(const std::string& source) {
  const std::vector<std::string> lines = split_lines(source);
  const auto is_rule = [](const std::string& line) { return line.starts_with("// -----"); };
  std::vector<Knob> knobs;
  bool inside = false;
  for (size_t i = 1; i + 1 < lines.size(); ++i) {
    if (is_rule(lines[i - 1])) inside = trim(lines[i]).starts_with("// Hyperparameters");
    if (!inside) continue;
    if (auto knob = knob_of(lines[i], i)) knobs.push_back(std::move(*knob));
  }
  return knobs;
}

std::optional<std::string> propose_by_tuning(
    const std::string& source, const std::vector<Past>& past, uint64_t seed,
    const std::string& device, const std::function<bool(const std::string& source)>& measured) {
  constexpr size_t kPaired = 24;  // of the best moves, for steps of two
  const std::vector<std::string> lines = split_lines(source);
  const std::vector<Knob> knobs = find_knobs(source);
  const std::vector<Move> moves = ranked_moves(knobs, past, seed, device);
  const auto untried = [&](const std::vector<Move>& step) {
    return consistent(knobs, step) && !measured(changed_source(lines, step));
  };
  for (const Move& move : moves) {
    if (untried({move})) return reply_for(lines, {move});
  }
  // Every single step is known: two at a time, the better ones first.
  for (size_t b = 1; b < std::min(kPaired, moves.size()); ++b) {
    for (size_t a = 0; a < b; ++a) {
      if (moves[a].knob == moves[b].knob) continue;
      if (untried({moves[a], moves[b]})) return reply_for(lines, {moves[a], moves[b]});
    }
  }
  return std::nullopt;
}

}  // namespace autoresearch
