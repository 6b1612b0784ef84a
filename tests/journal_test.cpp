#include "agent/record/journal.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <random>
#include <regex>

#include "common/error.h"

namespace autoresearch {
namespace {

using nlohmann::json;

class JournalFile : public ::testing::Test {
 protected:
  JournalFile() {
    char name[] = "/tmp/journal_test.XXXXXX";
    root_ = mkdtemp(name);
    path_ = root_ / "journal.jsonl";
  }
  ~JournalFile() override { fs::remove_all(root_); }

  void write(const std::string& bytes) { std::ofstream(path_, std::ios::binary) << bytes; }

  fs::path root_, path_;
};

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST_F(JournalFile, GivesBackWhatWasAppended) {
  json long_event = {{"event", "call"}, {"text", std::string(1 << 20, 'x') + "\n\t\"\u00e4\""}};
  {
    Journal journal(path_);
    EXPECT_TRUE(journal.events().empty());
    journal.append({{"event", "start"}, {"tag", "nov23"}});
    journal.append(long_event);
  }
  Journal journal(path_);
  ASSERT_EQ(journal.events().size(), 2u);
  EXPECT_EQ(journal.events()[0]["tag"], "nov23");
  EXPECT_EQ(journal.events()[1]["text"], long_event["text"]);
  EXPECT_EQ(read_journal(path_), journal.events());
  EXPECT_TRUE(std::regex_match(journal.events()[0]["time"].get<std::string>(),
                               std::regex(R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)")));
}

TEST_F(JournalFile, MemoryAndDiskAgreeAboutValuesThatJsonCantHold) {
  Journal journal(path_);
  journal.append({{"event", "measured"}, {"bpb", std::nan("")}, {"idea", "bad \xff byte"}});
  EXPECT_EQ(journal.events(), read_journal(path_));
  EXPECT_TRUE(journal.events()[0]["bpb"].is_null());
  EXPECT_EQ(journal.events()[0]["idea"], "bad \uFFFD byte");
}

TEST_F(JournalFile, ATornLastLineIsCutWhereverItWasTorn) {
  const std::string whole = "{\"event\":\"start\"}\n",
                    last = "{\"event\":\"stop\",\"why\":\"x\"}\n";
  for (size_t cut = 0; cut < last.size(); ++cut) {
    write(whole + last.substr(0, cut));
    EXPECT_EQ(read_journal(path_).size(), 1u) << cut;
    EXPECT_EQ(read_file(path_).size(), whole.size() + cut) << "reading changes nothing";
    Journal journal(path_);
    EXPECT_EQ(journal.events().size(), 1u) << cut;
    journal.append({{"event", "call"}});
    EXPECT_EQ(read_journal(path_).size(), 2u) << cut;
  }
  write(whole + std::string(4096, '\0') + "\"}\n");
  EXPECT_EQ(Journal(path_).events().size(), 1u) << "zeros where data never arrived";
}

TEST_F(JournalFile, ABadLineElsewhereIsAnErrorWithItsNumberAndTheFileIsLeftAlone) {
  for (const char* bad : {"{\"event\":\"st", "", "[]", "{}", "{\"event\":3}", "3", "{} x"}) {
    for (const char* after : {"", "{\"event\":\"stop\"}\n"}) {
      const std::string bytes = std::string("{\"event\":\"start\"}\n") + bad + "\n" + after;
      write(bytes);
      EXPECT_NE(message_of([&] { Journal journal(path_); }).find("line 2 "), std::string::npos)
          << bad;
      EXPECT_NE(message_of([&] { read_journal(path_); }).find("line 2 "), std::string::npos) << bad;
      EXPECT_EQ(read_file(path_), bytes);
    }
  }
}

TEST_F(JournalFile, ASecondWriterIsRefusedWhileReadersAreNot) {
  Journal journal(path_);
  journal.append({{"event", "start"}});
  EXPECT_EXIT(
      {
        bool read = read_journal(path_).size() == 1;
        bool refused = !message_of([&] { Journal second(path_); }).empty();
        _exit(read && refused ? 0 : 1);
      },
      ::testing::ExitedWithCode(0), "");
}

TEST_F(JournalFile, NoEventThatAppendReturnedFromIsLostWhenTheWriterIsKilled) {
  std::mt19937 random(1);
  int64_t expected = 0;
  for (int round = 0; round < 50; ++round) {
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
      Journal journal(path_);
      for (int64_t i = static_cast<int64_t>(journal.events().size());; ++i) {
        journal.append({{"event", "call"}, {"id", i}, {"text", std::string(i % 9000, 'x')}});
        const int64_t done = i + 1;
        if (::write(ends[1], &done, sizeof done) != sizeof done) _exit(1);
      }
    }
    close(ends[1]);
    ASSERT_EQ(read(ends[0], &expected, sizeof expected), ssize_t{sizeof expected});
    usleep(random() % 8000);
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    for (int64_t i; read(ends[0], &i, sizeof i) == sizeof i;) expected = i;
    close(ends[0]);
    Journal journal(path_);
    const auto& events = journal.events();
    ASSERT_GE(static_cast<int64_t>(events.size()), expected);
    for (size_t i = 0; i < events.size(); ++i) ASSERT_EQ(events[i]["id"], i);
  }
  EXPECT_GE(expected, 50);
}

TEST_F(JournalFile, AFullDiskThrowsAndLeavesNothingHalfTaken) {
  auto body = [&] {
    signal(SIGXFSZ, SIG_IGN);
    Journal journal(path_);
    journal.append({{"event", "start"}});
    const rlimit full{fs::file_size(path_) + 20, RLIM_INFINITY},
        roomy{RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_FSIZE, &full);
    bool threw = !message_of([&] { journal.append({{"event", "verdict"}, {"n", 0}}); }).empty();
    setrlimit(RLIMIT_FSIZE, &roomy);
    bool stays = !message_of([&] { journal.append({{"event", "stop"}}); }).empty();
    _exit(threw && stays && journal.events().size() == 1 ? 0 : 1);
  };
  EXPECT_EXIT(body(), ::testing::ExitedWithCode(0), "");
  EXPECT_GT(read_file(path_).size(), read_file(path_).rfind('\n') + 1)
      << "the line was half written";
  Journal journal(path_);
  EXPECT_EQ(journal.events().size(), 1u);
  journal.append({{"event", "stop"}});
  EXPECT_EQ(read_journal(path_).size(), 2u);
}

TEST_F(JournalFile, AMissingFolderOrFileIsAnErrorOfOneLine) {
  EXPECT_NE(message_of([&] { Journal journal(root_ / "none" / "j"); }), "");
  EXPECT_NE(message_of([&] { read_journal(path_); }), "");
}

json candidate(int64_t n, const std::string& idea = "", json next = json::array()) {
  return {
      {"event", "candidate"},  {"n", n},       {"commit", "c" + std::to_string(n)}, {"idea", idea},
      {"proposer", "builtin"}, {"next", next}, {"time", "2026-11-23T01:00:00.000Z"}};
}
json run(int64_t n, int attempt) {
  return {{"event", "run"}, {"n", n}, {"attempt", attempt}, {"pid", 7}, {"starttime", 99}};
}
json measured(int64_t n, int attempt, double bpb) {
  return {{"event", "measured"}, {"n", n}, {"attempt", attempt}, {"bpb", bpb}};
}
json verdict(int64_t n, const std::string& status, const std::string& reason = "") {
  return {{"event", "verdict"},
          {"n", n},
          {"status", status},
          {"reason", reason},
          {"time", "2026-11-23T01:02:00.000Z"}};
}

TEST(Replay, ARunReadsBackAsItWent) {
  RunState state = replay({{{"event", "start"}, {"tag", "a"}},
                           {{"event", "start"}, {"tag", "b"}},
                           candidate(0, "baseline"),
                           run(0, 1),
                           measured(0, 1, 2.0),
                           verdict(0, "keep"),
                           candidate(1, "wider"),
                           run(1, 1),
                           measured(1, 1, 1.9),
                           verdict(1, "keep"),
                           candidate(2, "worse"),
                           run(2, 1),
                           measured(2, 1, 1.95),
                           verdict(2, "discard", "no gain"),
                           candidate(3, "broken"),
                           verdict(3, "crash", "does not build"),
                           candidate(4, "now"),
                           run(4, 1)});
  EXPECT_EQ(state.start["tag"], "a") << "the first start event is the run's identity";
  EXPECT_EQ(state.champion, "c1");
  EXPECT_EQ(state.champion_n, 1);
  EXPECT_EQ(state.best_bpb, 1.9);
  ASSERT_EQ(state.experiments.size(), 5u);
  EXPECT_EQ(state.experiments[0].status, "keep");
  EXPECT_EQ(state.experiments[2].reason, "no gain");
  EXPECT_EQ(state.experiments[3].attempts, 0);
  EXPECT_EQ(state.experiments[3].end_utc, "2026-11-23T01:02:00.000Z");
  EXPECT_EQ(state.experiments[2].measured->at("bpb"), 1.95);
  const Experiment& open = state.experiments[4];
  EXPECT_TRUE(open.open && open.status.empty() && !open.measured);
  EXPECT_EQ(open.pid, 7);
  EXPECT_EQ(open.start_time, 99u);
}

TEST(Replay, AnEmptyJournalIsAnEmptyRun) {
  RunState state = replay({});
  EXPECT_TRUE(state.start.is_null() && state.experiments.empty() && state.champion.empty());
  EXPECT_EQ(state.champion_n, -1);
}

TEST(Replay, InterruptedAttemptsAreCountedAndARepairBeginsAnew) {
  std::vector<json> events = {candidate(0), run(0, 1), run(0, 2)};
  EXPECT_EQ(replay(events).experiments[0].interrupted, 1);
  EXPECT_TRUE(replay(events).experiments[0].open);
  events.push_back(candidate(0, "mended"));
  EXPECT_EQ(replay(events).experiments[0].interrupted, 0);
  EXPECT_FALSE(replay(events).experiments[0].open);
  EXPECT_EQ(replay(events).experiments[0].idea, "mended");
  events.push_back(run(0, 3));
  EXPECT_EQ(replay(events).experiments[0].attempts, 3);
}

// A crash goes back to its author: the mended candidate takes its place, and the verdict is on
// that.
TEST(Replay, ARepairAfterAMeasuredCrashIsAnAttemptWithinTheExperiment) {
  const auto version = [](const std::string& fingerprint) {
    json event = candidate(0, "idea of " + fingerprint);
    event["fingerprint"] = fingerprint;
    event["commit"] = "commit of " + fingerprint;
    event["constants"] = {"kA 2 (was 1)"};
    event["areas"] = {"Model"};
    return event;
  };
  std::vector<json> events = {version("a"), run(0, 1), measured(0, 1, 0)};
  EXPECT_TRUE(replay(events).experiments[0].measured) << "a kill here ends in the crash's verdict";
  events.push_back(version("b"));
  EXPECT_FALSE(replay(events).experiments[0].measured);
  events.insert(events.end(), {run(0, 2), measured(0, 2, 1.5), verdict(0, "keep")});
  const RunState state = replay(events);
  ASSERT_EQ(state.experiments.size(), 1u);
  const Experiment& experiment = state.experiments[0];
  EXPECT_EQ(experiment.attempts, 2);
  EXPECT_EQ(experiment.interrupted, 0);
  EXPECT_EQ(experiment.fingerprint, "b");
  EXPECT_EQ(experiment.failed, std::vector<std::string>{"a"});
  EXPECT_EQ(experiment.constants, std::vector<std::string>{"kA 2 (was 1)"});
  EXPECT_EQ(experiment.areas, std::vector<std::string>{"Model"});
  EXPECT_EQ(state.champion, "commit of b");
  EXPECT_EQ(state.best_bpb, 1.5);
}

TEST(Replay, BrokenInvariantsAreErrorsThatNameTheEvent) {
  const std::vector<json> kept = {candidate(0), run(0, 1), measured(0, 1, 2.0), verdict(0, "keep")};
  const std::vector<std::vector<json>> bad = {
      {candidate(1)},
      {candidate(-1)},
      {run(0, 1)},
      {measured(0, 1, 2)},
      {verdict(0, "crash")},
      {candidate(0), run(0, 2)},
      {candidate(0), run(0, 1), run(0, 1)},
      {candidate(0), measured(0, 1, 2)},
      {candidate(0), run(0, 1), measured(0, 1, 2), candidate(0), verdict(0, "keep")},
      {candidate(0), run(0, 1), measured(0, 1, 2), candidate(0), run(0, 1)},
      {candidate(0), run(0, 1), measured(0, 2, 2)},
      {candidate(0), run(0, 1), measured(0, 1, 2), measured(0, 1, 2)},
      {candidate(0), verdict(0, "keep")},
      {candidate(0), verdict(0, "great")},
      {candidate(0), run(0, 1), measured(0, 1, std::nan("")),
       verdict(0, "keep", "null after a dump")},
      {kept[0], kept[1], kept[2], kept[3], verdict(0, "keep")},
      {kept[0], kept[1], kept[2], kept[3], run(0, 2)},
      {kept[0], kept[1], kept[2], kept[3], candidate(0)},
      {candidate(0), {{"event", "run"}, {"n", 0}}},
      {candidate(0), {{"event", "verdict"}, {"n", "0"}, {"status", "keep"}}},
  };
  for (const std::vector<json>& events : bad) {
    std::string message = message_of([&] { replay(events); });
    EXPECT_NE(message.find("event " + std::to_string(events.size()) + " "), std::string::npos)
        << json(events).dump() << "\n"
        << message;
    EXPECT_EQ(message.find('\n'), std::string::npos);
  }
  EXPECT_NO_THROW(replay({{{"event", "from the future"}, {"n", "x"}}}));
}

TEST(Replay, BacklogHoldsTheLatestTenLinesThatWereNotTried) {
  std::vector<json> events;
  for (int n = 0; n < 8; ++n) {
    events.push_back(candidate(n, "idea " + std::to_string(n),
                               {"next a" + std::to_string(n), "next b" + std::to_string(n)}));
    events.push_back(verdict(n, "crash"));
  }
  events.push_back(candidate(8, "next b7", {"idea 3", "next a7", "next c"}));
  EXPECT_EQ(replay(events).backlog,
            (std::vector<std::string>{"next a3", "next b3", "next a4", "next b4", "next a5",
                                      "next b5", "next a6", "next b6", "next a7", "next c"}));
}

TEST(Replay, TenThousandExperimentsAreRead) {
  std::vector<json> events;
  for (int n = 0; n < 10000; ++n) {
    events.insert(events.end(), {candidate(n, "idea " + std::to_string(n), {"next"}), run(n, 1),
                                 measured(n, 1, 2.0 - n * 1e-5), verdict(n, "keep")});
  }
  RunState state = replay(events);
  EXPECT_EQ(state.champion_n, 9999);
  EXPECT_EQ(state.backlog, std::vector<std::string>{"next"});
}

}  // namespace
}  // namespace autoresearch
