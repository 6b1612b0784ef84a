#include "agent/record/journal.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <random>
#include <regex>

#include "tests/support.h"

namespace autoresearch {
namespace {

using nlohmann::json;

const std::string kStart = "{\"event\":\"start\",\"version\":2}\n";

class JournalFile : public FolderTest {
 protected:
  void write(const std::string& bytes) { file("journal.jsonl", bytes); }
  // What a writer and a reader say of the file.
  std::string refused() const {
    return error_of([&] { Journal journal(path_); });
  }
  std::string unread() const {
    return error_of([&] { read_journal(path_); });
  }

  const fs::path path_ = dir_ / "journal.jsonl";
};

json as_json(const std::vector<Entry>& entries) {
  json list = json::array();
  for (const Entry& entry : entries) list.push_back(to_json(entry));
  return list;
}

template <typename T>
const T& get(const Entry& entry) {
  return std::get<T>(entry.event);
}

TEST_F(JournalFile, GivesBackWhatWasAppended) {
  const std::string words = std::string(1 << 20, 'x') + "\n\t\"\u00e4\"";
  {
    Journal journal(path_);
    EXPECT_TRUE(journal.earlier().empty());
    event::Start start;
    start.tag = "nov23";
    journal.append(start);
    journal.append(event::NotBuilt{1, "f", words});
  }
  Journal journal(path_);
  ASSERT_EQ(journal.earlier().size(), 2u);
  EXPECT_EQ(get<event::Start>(journal.earlier()[0]).tag, "nov23");
  EXPECT_EQ(get<event::NotBuilt>(journal.earlier()[1]).errors, words);
  EXPECT_EQ(as_json(read_journal(path_)), as_json(journal.earlier()));
  EXPECT_TRUE(std::regex_match(journal.earlier()[0].time,
                               std::regex(R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)")));
}

TEST_F(JournalFile, MemoryAndDiskAgreeAboutValuesThatJsonCantHold) {
  Journal journal(path_);
  event::Measurement nothing;
  nothing.measured.bpb = std::nan("");
  nothing.measured.last_words = "bad \xff byte";
  const Entry returned = journal.append(nothing);
  EXPECT_EQ(as_json({returned}), as_json(read_journal(path_)));
  EXPECT_FALSE(get<event::Measurement>(returned).measured.bpb);
  EXPECT_EQ(get<event::Measurement>(returned).measured.last_words, "bad \uFFFD byte");
}

TEST_F(JournalFile, ATornLastLineIsCutWhereverItWasTorn) {
  const std::string whole = kStart, last = "{\"event\":\"stop\",\"why\":\"x\"}\n";
  for (size_t cut = 0; cut < last.size(); ++cut) {
    write(whole + last.substr(0, cut));
    EXPECT_EQ(read_journal(path_).size(), 1u) << cut;
    EXPECT_EQ(read_file(path_).size(), whole.size() + cut) << "reading changes nothing";
    Journal journal(path_);
    EXPECT_EQ(journal.earlier().size(), 1u) << cut;
    journal.append(event::Resumed{});
    EXPECT_EQ(read_journal(path_).size(), 2u) << cut;
  }
  write(whole + std::string(4096, '\0') + "\"}\n");
  EXPECT_EQ(Journal(path_).earlier().size(), 1u) << "zeros where data never arrived";
}

TEST_F(JournalFile, ABadLineElsewhereIsAnErrorWithItsNumberAndTheFileIsLeftAlone) {
  for (const char* bad :
       {"{\"event\":\"st", "", "[]", "{}", "{\"event\":3}", "3", "{} x",
        "{\"event\":\"run\",\"n\":0}", "{\"event\":\"verdict\",\"n\":\"0\",\"status\":\"keep\"}",
        "{\"event\":\"verdict\",\"n\":0,\"status\":\"great\"}"}) {
    for (const char* after : {"", "{\"event\":\"stop\"}\n"}) {
      const std::string bytes = kStart + bad + "\n" + after;
      write(bytes);
      EXPECT_NE(refused().find("line 2 "), std::string::npos) << bad;
      EXPECT_NE(unread().find("line 2 "), std::string::npos) << bad;
      EXPECT_EQ(read_file(path_), bytes);
    }
  }
}

TEST_F(JournalFile, ASecondWriterIsRefusedWhileReadersAreNot) {
  Journal journal(path_);
  journal.append(event::Start{});
  EXPECT_EXIT(
      {
        bool read = read_journal(path_).size() == 1;
        bool second = !refused().empty();
        _exit(read && second ? 0 : 1);
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
      for (int64_t i = static_cast<int64_t>(journal.earlier().size());; ++i) {
        journal.append(event::NotBuilt{i, "", std::string(i % 9000, 'x')});
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
    const auto& entries = journal.earlier();
    ASSERT_GE(static_cast<int64_t>(entries.size()), expected);
    for (size_t i = 0; i < entries.size(); ++i)
      ASSERT_EQ(get<event::NotBuilt>(entries[i]).n, static_cast<int64_t>(i));
  }
  EXPECT_GE(expected, 50);
}

TEST_F(JournalFile, AFullDiskThrowsAndLeavesNothingHalfTaken) {
  auto body = [&] {
    signal(SIGXFSZ, SIG_IGN);
    Journal journal(path_);
    journal.append(event::Start{});
    const rlimit full{fs::file_size(path_) + 20, RLIM_INFINITY},
        roomy{RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_FSIZE, &full);
    bool threw = !error_of([&] { journal.append(event::Stop{"a long sentence"}); }).empty();
    setrlimit(RLIMIT_FSIZE, &roomy);
    bool stays = !error_of([&] { journal.append(event::Stop{}); }).empty();
    _exit(threw && stays ? 0 : 1);
  };
  EXPECT_EXIT(body(), ::testing::ExitedWithCode(0), "");
  EXPECT_GT(read_file(path_).size(), read_file(path_).rfind('\n') + 1)
      << "the line was half written";
  Journal journal(path_);
  EXPECT_EQ(journal.earlier().size(), 1u);
  journal.append(event::Stop{});
  EXPECT_EQ(read_journal(path_).size(), 2u);
}

TEST_F(JournalFile, AMissingFolderOrFileIsAnErrorOfOneLine) {
  EXPECT_NE(error_of([&] { Journal journal(dir_ / "none" / "j"); }), "");
  EXPECT_NE(unread(), "");
}

TEST_F(JournalFile, WhatALaterVersionWritesIsPassedOver) {
  write(kStart + "{\"event\":\"from the future\",\"n\":\"x\"}\n{\"event\":\"stop\"}\n");
  ASSERT_EQ(read_journal(path_).size(), 2u);
  EXPECT_TRUE(std::holds_alternative<event::Stop>(read_journal(path_)[1].event));
}

TEST(SteadyWallClock, BeginsAsTheMachineSaysAndNeverBeforeWhatIsOnRecord) {
  EXPECT_NEAR(steady_wall_clock(0)(), wall_clock(), 1);
  const double future = wall_clock() + 3 * 3600;  // the clock was put back since that was written
  const auto clock = steady_wall_clock(future);
  const double first = clock();
  EXPECT_GE(first, future);
  EXPECT_LT(first, future + 60);
  EXPECT_GE(clock(), first);
}

TEST_F(JournalFile, TheClockIsTheCallers) {
  Journal journal(path_, [] { return 1.7e9 + 0.25; });
  EXPECT_EQ(journal.append(event::Resumed{}).time, "2023-11-14T22:13:20.250Z");
}

TEST_F(JournalFile, TheCallsAmongTheEventsAreTheAccounts) {
  CallOpened opened;
  opened.id = 1;
  opened.n = 3;
  CallClosed closed;
  closed.id = 1;
  closed.tokens_in = 7;
  Journal journal(path_);
  for (const Event& event : {Event(event::Start{}), Event(opened), Event(closed)})
    journal.append(event);
  const std::vector<CallEvent> calls = calls_in(read_journal(path_));
  ASSERT_EQ(calls.size(), 2u);
  EXPECT_EQ(std::get<CallOpened>(calls[0]).n, 3);
  EXPECT_EQ(std::get<CallClosed>(calls[1]).tokens_in, 7);
}

}  // namespace
}  // namespace autoresearch
