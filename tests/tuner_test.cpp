// The builtin proposer on the real train.cpp: every proposal applies, is new and in range, and what
// was learned steers the next one.
#include "agent/propose/tuner.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <map>
#include <random>
#include <set>
#include <sstream>

#include "agent/edit/constants.h"
#include "agent/edit/edit.h"
#include "common/files.h"

namespace autoresearch {
namespace {

std::string real_source() {
  std::stringstream text;
  text << std::ifstream(fs::path(SOURCE_DIR) / "train.cpp").rdbuf();
  return text.str();
}

std::string section(const std::string& body) {
  return "int before;\n\n// -----------------------------------\n// Hyperparameters (edit "
         "these)\n\n" +
         body +
         "\n// -----------------------------------\n// Model\n\nconstexpr double kLater = 1;\n";
}

// A run of the proposer: `judge` says whether a source is better than the best so far.
struct Session {
  std::string source = real_source();
  std::string device = "cpu";
  std::vector<Past> past = {{0, "keep", 1, 0, "baseline", ""}};
  std::set<std::string> seen = {source};  // whole texts: cheaper than fingerprints

  // Applies the next proposal; its source, or nothing when the proposer has no more.
  std::optional<std::string> propose() {
    const auto reply = propose_by_tuning(source, past, past.size(), device,
                                         [&](const auto& other) { return seen.count(other) > 0; });
    if (!reply) return std::nullopt;
    auto parsed = parse_reply(*reply, false, false);
    if (auto* feedback = std::get_if<Feedback>(&parsed)) {
      ADD_FAILURE() << feedback->text << *reply;
      return std::nullopt;
    }
    idea = std::get<Proposal>(parsed).idea;
    auto edited = apply_proposal(source, std::get<Proposal>(parsed));
    if (auto* feedback = std::get_if<Feedback>(&edited)) {
      ADD_FAILURE() << feedback->text << *reply;
      return std::nullopt;
    }
    return std::get<std::string>(edited);
  }

  void record(const std::string& edited, bool kept) {
    seen.insert(edited);
    const auto n = static_cast<int64_t>(past.size());
    past.push_back({n, kept ? "keep" : "discard", 1, kept ? -0.1 : 0.1, idea, ""});
    if (kept) source = edited;
  }

  std::string idea;
};

std::map<std::string, std::string> values(const std::string& source) {
  std::map<std::string, std::string> by_name;
  for (const Knob& knob : find_knobs(source)) by_name[knob.name] = knob.value;
  return by_name;
}

std::vector<std::string> changed(const std::string& before, const std::string& after) {
  const auto a = values(before), b = values(after);
  EXPECT_EQ(a.size(), b.size());
  std::vector<std::string> names;
  for (const auto& [name, value] : a) {
    if (b.at(name) != value) names.push_back(name);
  }
  return names;
}

TEST(FindKnobs, ReadsTheConstantsOfTheSectionAndNoOthers) {
  const std::string source = section(
      "constexpr int64_t kBatch = 1 << 19;  // tokens, at most 4\n"
      "constexpr bool kFlag = true;\n"
      "constexpr std::string_view kWindowPattern = \"SSSL\";\n"
      "constexpr char kOther[] = \"SL\";\n"
      "// constexpr double kOff = 1;\n"
      "const double kNotConstexpr = 1;\n"
      "constexpr double kMatrixLr = 0.04f;\n");
  const std::vector<Knob> knobs = find_knobs(source);
  ASSERT_EQ(knobs.size(), 5u);
  EXPECT_EQ(knobs[0].name + knobs[0].type + knobs[0].value, "kBatchint64_t1 << 19");
  EXPECT_EQ(knobs[0].comment, "// tokens, at most 4");
  EXPECT_EQ(knobs[0].line, 5u);
  EXPECT_EQ(knobs[2].value, "\"SSSL\"");
  EXPECT_EQ(knobs[3].name, "kOther");
  EXPECT_EQ(knobs[4].value, "0.04f");
  EXPECT_TRUE(find_knobs("constexpr double kMatrixLr = 0.04;\n").empty());
  EXPECT_TRUE(find_knobs("").empty());
}

TEST(FindKnobs, FindsTheRealOnes) {
  const auto all = values(real_source());
  EXPECT_GE(all.size(), 20u);
  EXPECT_EQ(all.count("kMatrixLr"), 1u);
}

TEST(ProposeByTuning, IsAPureFunction) {
  const auto never = [](const std::string&) { return false; };
  const std::string source = real_source();
  EXPECT_EQ(propose_by_tuning(source, {}, 3, "cpu", never),
            propose_by_tuning(source, {}, 3, "cpu", never));
}

// 150 experiments in a row, some kept at random: each applies, changes one or two constants of this
// device, is new, and leaves every constant in range.
TEST(ProposeByTuning, EveryProposalAppliesIsNewAndInRange) {
  for (const std::string device : {"cpu", "cuda"}) {
    std::mt19937 random(5);
    Session session;
    session.device = device;
    for (int i = 0; i < 150; ++i) {
      const auto edited = session.propose();
      if (!edited) break;
      const auto names = changed(session.source, *edited);
      ASSERT_TRUE(names.size() == 1 || names.size() == 2) << session.idea;
      for (const std::string& name : names) {
        EXPECT_EQ(name.find(device == "cpu" ? "Gpu" : "Cpu"), std::string::npos);
        EXPECT_NE(session.idea.find(name), std::string::npos);
        const std::string value = values(*edited).at(name);
        const double number = std::atof(value.c_str());
        const auto about = [&](const char* part) { return name.find(part) != std::string::npos; };
        const bool rate = name.ends_with("Lr") && name != "kFinalLr";
        EXPECT_TRUE(number >= 0 || value[0] == '"') << session.idea;
        EXPECT_TRUE(number > 0 || !(rate || about("Beta") || about("Depth"))) << session.idea;
        EXPECT_TRUE(number < 1 || !about("Beta")) << session.idea;
        EXPECT_TRUE(number <= 5 || name != "kPolarSteps") << "its comment says at most 5";
      }
      ASSERT_TRUE(session.seen.insert(*edited).second) << session.idea;
      session.record(*edited, random() % 8 == 0);
    }
    EXPECT_GT(session.past.size(), 150u);
  }
}

TEST(ProposeByTuning, FollowsADirectionThatWonUntilItLoses) {
  Session session;
  const auto first = session.propose();
  ASSERT_TRUE(first);
  const std::vector<std::string> name = changed(session.source, *first);
  const bool up =
      std::stod(values(*first).at(name[0])) > std::stod(values(session.source).at(name[0]));
  session.record(*first, true);
  const auto second = session.propose();
  ASSERT_TRUE(second);
  EXPECT_EQ(changed(session.source, *second), name);
  const double further =
      std::stod(values(*second).at(name[0])) - std::stod(values(session.source).at(name[0]));
  EXPECT_EQ(further > 0, up);
  session.record(*second, false);
  const auto third = session.propose();
  ASSERT_TRUE(third);
  EXPECT_NE(changed(session.source, *third), name);
}

TEST(ProposeByTuning, LeavesAKnobThatLostBothWaysForLater) {
  Session session;
  for (const char* idea : {"kMatrixLr 0.04 -> 0.056", "kMatrixLr 0.04 -> 0.028",
                           "kHeadLr 0.004 -> 0.0056", "kHeadLr 0.004 -> 0.0028"}) {
    session.past.push_back({9, "discard", 1, 0.1, idea, ""});
  }
  for (int i = 0; i < 8; ++i) {
    const auto edited = session.propose();
    ASSERT_TRUE(edited);
    EXPECT_NE(changed(session.source, *edited)[0], "kMatrixLr");
    EXPECT_NE(changed(session.source, *edited)[0], "kHeadLr");
    session.seen.insert(*edited);
  }
}

TEST(ProposeByTuning, KeepsTheStyleOfAValue) {
  Session session;
  session.source = section(
      "constexpr int64_t kTotalBatch = 1 << 19;\nconstexpr bool kFlag = true;\n"
      "constexpr float kMatrixLr = 0.5f;\nconstexpr std::string_view kWindowPattern = \"SL\";\n");
  std::set<std::string> ideas;
  while (const auto edited = session.propose()) {
    ideas.insert(session.idea);
    session.record(*edited, false);
  }
  for (const char* idea :
       {"kTotalBatch 1 << 19 -> 1 << 20", "kTotalBatch 1 << 19 -> 1 << 18", "kFlag true -> false",
        "kMatrixLr 0.5f -> 0.7f", "kWindowPattern \"SL\" -> \"L\""}) {
    EXPECT_EQ(ideas.count(idea), 1u) << idea;
  }
}

TEST(ProposeByTuning, GoesOnWithPairsAndEndsWhenAllIsKnown) {
  Session session;
  session.source =
      section("constexpr double kMatrixLr = 0.04;\nconstexpr double kHeadLr = 0.004;\n");
  size_t pairs = 0, rounds = 0;
  while (const auto edited = session.propose()) {
    pairs += changed(session.source, *edited).size() == 2;
    session.record(*edited, false);
    ASSERT_LT(++rounds, 1000u);
  }
  EXPECT_EQ(rounds - pairs, 8u);
  EXPECT_EQ(pairs, 16u);
}

TEST(ProposeByTuning, SaysNothingWithoutKnobs) {
  const auto never = [](const std::string&) { return false; };
  EXPECT_FALSE(propose_by_tuning("int main() {}\n", {}, 1, "cpu", never));
}

// Objectives whose best values lie within a factor of about three of the present ones, some knobs
// mattering more than others, with noise: eight experiments find a gain nearly always.
TEST(ProposeByTuning, EightExperimentsUsuallyFindAGain) {
  std::mt19937 random(1);
  std::normal_distribution<double> normal;
  int found = 0;
  constexpr int kRuns = 60;
  for (int run = 0; run < kRuns; ++run) {
    Session session;
    const auto start = values(session.source);
    std::map<std::string, double> best, weight;
    for (const auto& [name, value] : start) {
      best[name] = std::log2(std::max(1e-12, std::atof(value.c_str()))) + 0.8 * normal(random);
      weight[name] = std::exp(normal(random));
    }
    const auto loss = [&](const std::string& source) {
      double sum = 0.02 * normal(random);
      for (const auto& [name, value] : values(source)) {
        const double off = std::log2(std::max(1e-12, std::atof(value.c_str()))) - best[name];
        sum += weight[name] * off * off;
      }
      return sum;
    };
    double champion = loss(session.source);
    bool gained = false;
    for (int i = 0; i < 8; ++i) {
      const auto edited = session.propose();
      ASSERT_TRUE(edited);
      const double result = loss(*edited);
      session.record(*edited, result < champion);
      gained |= result < champion;
      champion = std::min(champion, result);
    }
    found += gained;
  }
  EXPECT_GE(found, kRuns * 9 / 10);
}

}  // namespace
}  // namespace autoresearch
