// Whatever the server does, and whenever the process dies: a file arrives whole and identical, or
// the error says exactly which did not. Real sockets, real files, real kills.
#include "prepare/download.h"

#include <gtest/gtest.h>
#include <pty.h>
#include <signal.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <random>
#include <thread>

#include "common/log.h"
#include "tests/file_server.h"
#include "tests/loopback_server.h"
#include "tests/support.h"

namespace autoresearch {
namespace {

using End = FileAnswer::End;
using Headers = std::map<std::string, std::string>;

constexpr size_t kSize = 300'000;  // bytes: more than a socket takes at once

// "<" random bytes ">": what a check can see of a cut, as with parquet's magic bytes.
std::string make_body(unsigned seed, size_t size = kSize) {
  std::mt19937 random(seed);
  std::string body(size, '\0');
  for (char& c : body) c = static_cast<char>(random());
  body.front() = '<';
  body.back() = '>';
  return body;
}

std::optional<std::string> problem_of(const fs::path& file) {
  const std::string bytes = read_file(file);
  if (bytes.size() < 2 || bytes.front() != '<' || bytes.back() != '>') return "it is cut off";
  return std::nullopt;
}

DownloadOptions quick_options() {
  DownloadOptions options;
  options.problem = problem_of;
  options.attempts = 4;
  options.second = 0.002;
  return options;
}

std::string etag(const std::string& name) { return "\"" + name + "\""; }

std::string header(const FileRequest& request, const std::string& name) {
  const auto found = request.headers.find(name);
  return found == request.headers.end() ? "" : found->second;
}

// Names and contents of all files in a folder, but for the lock.
std::map<std::string, std::string> contents(const fs::path& folder) {
  std::map<std::string, std::string> result;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string name = entry.path().lexically_relative(folder);
    if (entry.is_regular_file() && name != ".lock") result[name] = read_file(entry.path());
  }
  return result;
}

#define EXPECT_LACKS(text, part) EXPECT_EQ((text).find(part), std::string::npos) << (text)

class DownloadTest : public FolderTest {
 protected:
  void SetUp() override {
    for (const char* name : {"http_proxy", "all_proxy", "ALL_PROXY"}) unsetenv(name);
    folder_ = dir_ / "downloads";
  }

  // Puts `count` files on the server: f0, f1, ... with an ETag each.
  void put_files(FileServer& server, size_t count, size_t size = kSize) {
    for (size_t i = 0; i < count; ++i) put(server, "f" + std::to_string(i), make_body(i, size));
  }

  void put(FileServer& server, const std::string& name, const std::string& body,
           Headers headers = {{"ETag", "\"1\""}}) {
    server.put("/" + name, body, headers);
    expected_[name] = body;
  }

  std::vector<Download> files(const FileServer& server) const {
    std::vector<Download> result;
    for (const auto& [name, body] : expected_) result.push_back({server.url() + "/" + name, name});
    return result;
  }

  void get(const FileServer& server, const DownloadOptions& options = quick_options()) const {
    download(folder_, files(server), options);
  }

  std::string failure(const FileServer& server,
                      const DownloadOptions& options = quick_options()) const {
    const std::string message = error_of([&] { get(server, options); });
    EXPECT_LACKS(message, "\n");
    return message;
  }

  // Exactly the expected files are in the folder, and they are identical.
  void expect_all() const {
    const auto found = contents(folder_);
    for (const auto& [name, body] : found) EXPECT_TRUE(expected_.contains(name)) << name;
    for (const auto& [name, body] : expected_) {
      ASSERT_TRUE(found.contains(name)) << name;
      EXPECT_TRUE(found.at(name) == body) << name;
    }
  }

  bool has(const std::string& name) const { return fs::exists(folder_ / name); }

  // What is here of f0 while it is under way: the only file in f0.part.
  fs::path part() const {
    std::error_code none;
    const fs::directory_iterator entry(folder_ / "f0.part", none);
    return entry == fs::directory_iterator() ? fs::path() : entry->path();
  }

  // Leaves half of f0 there: the server's first answer, by hold_first(), waits for the interrupt.
  void leave_half(const FileServer& server) {
    DownloadOptions options = quick_options();
    options.interrupted = [this] {
      std::error_code none;
      return fs::file_size(part(), none) == kSize / 2;
    };
    EXPECT_HAS(failure(server, options), "interrupted");
  }

  static bool hold_first(const FileRequest& request, FileAnswer& answer) {
    if (request.index > 0) return false;
    answer.cut = kSize / 2;
    answer.end = End::kHold;
    return true;
  }

  fs::path folder_;
  std::map<std::string, std::string> expected_;
};

// ------------------------------------------------------------------------------------------------
// An honest server

TEST_F(DownloadTest, BringsAllFilesWholeAtMostEightAtATimeAskingOnceForEach) {
  FileServer server([](const FileRequest&, FileAnswer& answer) { answer.piece = 50'000; });
  put_files(server, 20);
  put(server, "empty", "");
  DownloadOptions options = quick_options();
  options.problem = {};
  get(server, options);
  expect_all();
  EXPECT_EQ(server.requests().size(), 21u);
  EXPECT_LE(server.most_at_once(), 8u);
  EXPECT_GT(server.most_at_once(), 1u);
}

TEST_F(DownloadTest, AFileThatIsThereIsNotAskedForAgainAndADamagedOneIsReplaced) {
  FileServer server;
  put_files(server, 3);
  get(server);
  write_file(folder_ / "f1", make_body(1).substr(0, 1000));
  get(server);
  expect_all();
  ASSERT_EQ(server.requests().size(), 4u);
  EXPECT_EQ(server.requests()[3].path, "/f1");
}

TEST_F(DownloadTest, OneProcessAtATimeWorksInAFolder) {
  FileServer server;
  put_files(server, 1);
  fs::create_directories(folder_);
  {
    const FileLock lock(folder_ / ".lock");
    EXPECT_HAS(failure(server), "is in use by process " + std::to_string(getpid()));
  }
  get(server);
  expect_all();
}

TEST_F(DownloadTest, OnlyWebAddressesAreTaken) {
  write_file(dir_ / "secret", "<>");
  const std::string url = "file://" + (dir_ / "secret").string();
  EXPECT_HAS(error_of([&] {
               download(folder_, {{url, "f0"}}, quick_options());
             }),
             "begins with https:// or http://");
  EXPECT_FALSE(has("f0"));
}

TEST_F(DownloadTest, AFolderThatCantBeMadeIsOneLine) {
  FileServer server;
  put_files(server, 1);
  write_file(dir_ / "downloads", "a file where the folder should be");
  EXPECT_HAS(failure(server), "can't make the folder " + folder_.string());
}

// ------------------------------------------------------------------------------------------------
// Broken connections

TEST_F(DownloadTest, ABrokenConnectionIsContinuedFromWhereItBroke) {
  for (const End end : {End::kClose, End::kReset}) {
    FileServer server([end](const FileRequest& request, FileAnswer& answer) {
      if (request.index < 6) {
        answer.cut = 40'000;
        answer.end = end;
      }
    });
    fs::remove_all(folder_);
    put_files(server, 3);
    get(server);
    expect_all();
    for (const FileRequest& request : server.requests())
      EXPECT_EQ(header(request, "range").empty(), request.index == 0);
  }
}

// Seven attempts in a row would be too many, but each brings something.
TEST_F(DownloadTest, NoByteIsAskedForTwice) {
  FileServer server([](const FileRequest& request, FileAnswer& answer) {
    if (request.index < 7) {
      answer.cut = 10'000;
      answer.end = End::kClose;
    }
  });
  put_files(server, 1);
  get(server);
  expect_all();
  const auto requests = server.requests();
  ASSERT_EQ(requests.size(), 8u);
  for (size_t i = 1; i < requests.size(); ++i)
    EXPECT_EQ(header(requests[i], "range"), "bytes=" + std::to_string(10'000 * i) + "-");
}

TEST_F(DownloadTest, AServerThatIgnoresRangeIsReadFromTheStart) {
  FileServer server([](const FileRequest& request, FileAnswer& answer) {
    if (!header(request, "range").empty()) answer = {200, {{"ETag", "\"1\""}}, make_body(0)};
    if (request.index < 2) {
      answer.cut = 100'000;
      answer.end = End::kClose;
    }
  });
  put_files(server, 1);
  get(server);
  expect_all();
  EXPECT_EQ(server.requests().size(), 3u);
}

TEST_F(DownloadTest, AServerThatAlwaysBreaksAtTheSamePlaceIsGivenUpByName) {
  FileServer server([](const FileRequest& request, FileAnswer& answer) {
    if (request.path != "/f1") return;
    answer = {200, {}, make_body(1)};
    answer.cut = 100'000;
    answer.end = End::kClose;
  });
  put_files(server, 3);
  EXPECT_EQ(
      failure(server),
      "1 of 3 files did not arrive: f1 (the connection ended after 100000 of 300000 bytes); "
      "what has arrived is kept, and the same command goes on from there once the cause is gone");
  EXPECT_TRUE(has("f0") && has("f2"));
  EXPECT_FALSE(has("f1"));
}

TEST_F(DownloadTest, AServerThatClosesRightAwayOrSendsGarbageIsAskedAgain) {
  const std::vector<std::string> garbage = {std::string("\x00\x01\x02 no HTTP at all \xff", 20),
                                            "HTTP/1.1 abc\r\n\r\n",
                                            "HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n<>",
                                            "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n<>",
                                            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n<>",
                                            "HTTP/1.1 200 OK\r\n" + std::string(400'000, 'x')};
  for (size_t i = 0; i <= garbage.size(); ++i) {
    FileServer server([&](const FileRequest& request, FileAnswer& answer) {
      if (request.index > 1) return;
      if (i == garbage.size()) answer.status = 0;
      if (i < garbage.size()) answer.raw = garbage[i];
      answer.end = End::kClose;
    });
    fs::remove_all(folder_);
    put_files(server, 1);
    // A response that never says how long it is can't be trusted, and that is said at once.
    const std::string message = failure(server);
    if (!message.empty()) {
      EXPECT_HAS(message, "does not say how long the file is");
      EXPECT_FALSE(has("f0"));
      get(server);
      get(server);
    }
    expect_all();
  }
}

TEST_F(DownloadTest, AStalledConnectionIsDroppedAndContinued) {
  FileServer server([](const FileRequest& request, FileAnswer& answer) {
    if (request.index == 0) answer.status = 0;
    if (request.index == 1) answer.cut = kSize / 3;
    if (request.index < 2) answer.end = End::kHold;
  });
  put_files(server, 2);
  DownloadOptions options = quick_options();
  options.stall = 1;
  get(server, options);
  expect_all();
  const auto requests = server.requests();
  EXPECT_EQ(header(requests.back(), "range"), "bytes=100000-");
}

TEST_F(DownloadTest, AServerThatNeverAnswersIsGivenUpByName) {
  FileServer server([](const FileRequest& request, FileAnswer& answer) {
    if (request.path != "/f0") return;
    answer.status = 0;
    answer.end = End::kHold;
  });
  put_files(server, 2);
  DownloadOptions options = quick_options();
  options.stall = 1;
  options.attempts = 2;
  EXPECT_HAS(failure(server, options), "1 of 2 files did not arrive: f0 (the connection stalled)");
  EXPECT_TRUE(has("f1"));
}

TEST_F(DownloadTest, AnAddressWhereNobodyListensIsGivenUpByName) {
  const std::string host = "127.0.0.1:" + std::to_string(unused_port());
  const std::string message = error_of([&] {
    download(folder_, {{"http://" + host + "/f0", "f0"}}, quick_options());
  });
  EXPECT_HAS(message, "1 of 1 files did not arrive: f0 (can't reach " + host);
}

TEST_F(DownloadTest, WhyNothingComesIsSaidOnceWhileItIsTriedAgain) {
  const std::string url = "http://127.0.0.1:" + std::to_string(unused_port()) + "/f";
  testing::internal::CaptureStderr();
  error_of([&] { download(folder_, {{url, "f0"}, {url, "f1"}}, quick_options()); });
  const std::string lines = testing::internal::GetCapturedStderr();
  const size_t said = lines.find("can't reach 127.0.0.1");
  ASSERT_NE(said, std::string::npos) << lines;
  EXPECT_HAS(lines, "; trying again\n");
  EXPECT_EQ(lines.find("can't reach", said + 1), std::string::npos) << lines;
}

// ------------------------------------------------------------------------------------------------
// Files that change, and what may be joined

TEST_F(DownloadTest, AFileThatChangesInBetweenIsTheNewOneInTheEnd) {
  for (const size_t new_size : {kSize, kSize - 250'000, kSize + 50'000}) {
    FileServer server(
        [](const FileRequest& request, FileAnswer& answer) { hold_first(request, answer); });
    put_files(server, 1);
    leave_half(server);
    put(server, "f0", make_body(99, new_size), {{"ETag", "\"2\""}});
    get(server);
    expect_all();
    EXPECT_EQ(header(server.requests()[1], "range"), "bytes=149999-");
    fs::remove_all(folder_);
  }
}

TEST_F(DownloadTest, OnlyAStrongValidatorLetsARestBeJoined) {
  const std::pair<Headers, bool> cases[] = {
      {{}, false},
      {{{"ETag", "W/\"1\""}}, false},
      {{{"Last-Modified", http_date(-5)}}, false},
      {{{"Last-Modified", "Mon, 02 Mar 2026 10:00:00 GMT"}}, true},
      {{{"ETag", "\"x\""}, {"Last-Modified", http_date(-5)}}, true}};
  for (const auto& [headers, joined] : cases) {
    FileServer server(
        [](const FileRequest& request, FileAnswer& answer) { hold_first(request, answer); });
    put(server, "f0", make_body(0), headers);
    leave_half(server);
    get(server);
    expect_all();
    EXPECT_EQ(header(server.requests()[1], "range"), joined ? "bytes=149999-" : "");
    EXPECT_EQ(server.requests().size(), 2u);
    fs::remove_all(folder_);
  }
}

// As a killed process leaves it: of another address, of a content that nobody knows again, of an
// older version of this program.
TEST_F(DownloadTest, WhatIsNotOfThisContentIsNotContinued) {
  for (const char* left : {"f0.part/0123", "f0.part"}) {
    fs::create_directories((folder_ / left).parent_path());
    write_file(folder_ / left, make_body(1).substr(0, kSize / 2));
    FileServer server;
    put_files(server, 1);
    get(server);
    expect_all();
    fs::remove_all(folder_);
  }
  FileServer first(
      [](const FileRequest& request, FileAnswer& answer) { hold_first(request, answer); });
  put(first, "f0", make_body(1));
  leave_half(first);
  FileServer second;
  put_files(second, 1);
  get(second);
  expect_all();
}

// After a power cut a part may have holes. It is continued only if the hub names the SHA-256, by
// which a hole is noticed; its name is then that of the content, whatever the machine's start.
TEST_F(DownloadTest, AHoleIsNoticedWhereTheHubNamesTheSha256) {
  const Headers headers = {{"ETag", "\"1\""}, {"X-Linked-Etag", etag(sha256(make_body(0)))}};
  for (const bool hole : {false, true}) {
    FileServer server(
        [](const FileRequest& request, FileAnswer& answer) { hold_first(request, answer); });
    put(server, "f0", make_body(0), headers);
    leave_half(server);
    EXPECT_EQ(part().filename(), sha256(make_body(0)));
    if (hole) {
      std::fstream file(part(), std::ios::in | std::ios::out | std::ios::binary);
      file.seekp(1000).write(std::string(4096, '\0').data(), 4096);
    }
    get(server);
    expect_all();
    EXPECT_EQ(header(server.requests()[1], "range"), "bytes=149999-");
    EXPECT_EQ(server.requests().size(), hole ? 3u : 2u);
    fs::remove_all(folder_);
  }
}

TEST_F(DownloadTest, AFileThatOnlyLacksItsNameNeedsOneByte) {
  FileServer server(
      [](const FileRequest& request, FileAnswer& answer) { hold_first(request, answer); });
  put_files(server, 1);
  leave_half(server);
  write_file(part(), make_body(0));
  get(server);
  expect_all();
  ASSERT_EQ(server.requests().size(), 2u);
  EXPECT_EQ(header(server.requests()[1], "range"), "bytes=299999-");
}

// ------------------------------------------------------------------------------------------------
// Lies about length and content

TEST_F(DownloadTest, WrongContentLengthsNeverMakeAFile) {
  for (const size_t length : {kSize + 1, kSize - 1, size_t{1}, size_t{0}}) {
    FileServer server([&](const FileRequest& request, FileAnswer& answer) {
      if (request.path != "/f0") return;
      answer.headers["Content-Length"] = std::to_string(length);
      answer.end = End::kClose;
    });
    fs::remove_all(folder_);
    put_files(server, 2);
    EXPECT_HAS(failure(server), "1 of 2 files did not arrive: f0 (");
    EXPECT_FALSE(has("f0"));
    EXPECT_TRUE(has("f1"));
  }
}

TEST_F(DownloadTest, AWrongContentLengthThatIsMendedIsForgotten) {
  for (const size_t length : {kSize + 1, kSize - 1, size_t{1}, size_t{0}}) {
    FileServer server([&](const FileRequest& request, FileAnswer& answer) {
      if (request.index > 0) return;
      answer.headers["Content-Length"] = std::to_string(length);
      answer.end = End::kClose;
    });
    fs::remove_all(folder_);
    put_files(server, 2);
    get(server);
    expect_all();
  }
}

TEST_F(DownloadTest, ARangeThatWasNotAskedForIsRefused) {
  const std::string ranges[] = {"bytes 0-299999/300000", "bytes 150000-299999/300000",
                                "bytes 149999-299999/400000", "bytes x-y/z", ""};
  for (const std::string& range : ranges) {
    FileServer server([&](const FileRequest& request, FileAnswer& answer) {
      if (hold_first(request, answer) || request.index > 1) return;
      answer.headers.erase("Content-Range");
      if (!range.empty()) answer.headers["Content-Range"] = range;
    });
    put_files(server, 1);
    leave_half(server);
    get(server);
    expect_all();
    EXPECT_EQ(server.requests().size(), 3u);
    fs::remove_all(folder_);
  }
}

TEST_F(DownloadTest, AServerThatOnlySendsPartsIsAskedForEach) {
  FileServer server([](const FileRequest& request, FileAnswer& answer) {
    const size_t begin = request.index * kSize / 3, end = begin + kSize / 3;
    answer.status = 206;
    answer.headers["Content-Range"] = "bytes " + std::to_string(begin) + "-" +
                                      std::to_string(end - 1) + "/" + std::to_string(kSize);
    answer.body = make_body(0).substr(begin, kSize / 3);
  });
  put_files(server, 1);
  get(server);
  expect_all();
  EXPECT_EQ(server.requests().size(), 3u);
}

TEST_F(DownloadTest, TheLengthNeedsToBeToldOnlyOnce) {
  FileServer server([](const FileRequest& request, FileAnswer& answer) {
    if (request.index == 0) {
      answer.cut = kSize / 2;
      answer.end = End::kClose;
    } else {
      std::string& range = answer.headers["Content-Range"];
      range.replace(range.find('/'), range.npos, "/*");
    }
  });
  put_files(server, 1);
  get(server);
  expect_all();
  EXPECT_EQ(server.requests().size(), 2u);
}

TEST_F(DownloadTest, AServerThatAlwaysSendsAnotherRangeIsReadFromTheStart) {
  FileServer server([&](const FileRequest& request, FileAnswer& answer) {
    if (!hold_first(request, answer) && !header(request, "range").empty())
      answer.headers["Content-Range"] = "bytes 7-299999/300000";
  });
  put_files(server, 1);
  leave_half(server);
  get(server);
  expect_all();
}

TEST_F(DownloadTest, MoreBytesThanAnnouncedAreRefused) {
  FileServer server([](const FileRequest& request, FileAnswer& answer) {
    if (!hold_first(request, answer) && request.index == 1) answer.body += "too much";
  });
  put_files(server, 1);
  leave_half(server);
  get(server);
  expect_all();
}

TEST_F(DownloadTest, BytesThatTheHubsSha256DoesNotFitAreGivenUpAfterThreeTimes) {
  FileServer server;
  put(server, "f0", make_body(0), {{"X-Linked-Etag", etag(sha256(make_body(1)))}});
  EXPECT_HAS(failure(server), "f0 (it arrived damaged: its SHA-256 is not the one");
  EXPECT_EQ(server.requests().size(), 3u);
  EXPECT_TRUE(contents(folder_).empty());
}

TEST_F(DownloadTest, ALengthThatTheHubContradictsIsRefused) {
  FileServer server;
  put(server, "f0", make_body(0), {{"X-Linked-Size", "300001"}});
  EXPECT_HAS(failure(server), "f0 (the server sends 300000 bytes where the hub names 300001)");
  EXPECT_FALSE(has("f0"));
}

// ------------------------------------------------------------------------------------------------
// Refusals and pauses

TEST_F(DownloadTest, ARetryAfterIsObeyedByAllTransfers) {
  using namespace std::chrono;
  const std::pair<int, Headers> asked[] = {{429, {{"Retry-After", "40"}}},
                                           {503, {{"Retry-After", "40"}}},
                                           {429, {{"Retry-After", http_date(41)}}},
                                           {503, {{"Retry-After", http_date(41)}}},
                                           {429, {{"RateLimit", "\"resolvers\";r=0;t=40"}}}};
  for (const auto& [status, headers] : asked) {
    FileServer server([&](const FileRequest& request, FileAnswer& answer) {
      answer.piece = 20'000;
      if (request.path == "/f0" && request.index == 0) answer = {status, headers, "slower please"};
    });
    fs::remove_all(folder_);
    put_files(server, 6);
    DownloadOptions options = quick_options();
    options.parallel = 2;
    options.second = 0.005;  // 40 of them are 200 ms
    get(server, options);
    expect_all();
    const auto requests = server.requests();
    EXPECT_EQ(requests.size(), 7u);
    // The second request may have been under way already; then nothing for the time asked.
    for (size_t i = 2; i < requests.size(); ++i)
      EXPECT_GE(requests[i].time - requests[0].time, 150ms) << i;
  }
}

TEST_F(DownloadTest, ALongPauseIsSaidAndATooLongOneIsAnError) {
  FileServer server([](const FileRequest& request, FileAnswer& answer) {
    if (request.index == 0) answer = {429, {{"Retry-After", "600"}}, ""};
  });
  put_files(server, 1);
  DownloadOptions options = quick_options();
  options.second = 0.0005;
  testing::internal::CaptureStderr();
  get(server, options);
  const std::string lines = testing::internal::GetCapturedStderr();
  expect_all();
  EXPECT_HAS(lines, "127.0.0.1:" + std::to_string(server.port()) +
                        " answered 429 and asks to wait; going on in 10 min 00 s\n");

  // Newer libcurl reports at most six hours, whatever the server says.
  FileServer other([](const FileRequest&, FileAnswer& answer) {
    answer = {503, {{"Retry-After", "18000"}}, ""};
  });
  put(other, "g0", make_body(0));
  EXPECT_HAS(failure(other), "answered 503 and asks to wait 5 h 00 min; try again then");
  EXPECT_EQ(other.requests().size(), 1u);
}

TEST_F(DownloadTest, ServerErrorsAreRetriedAndThenNamed) {
  FileServer server([](const FileRequest& request, FileAnswer& answer) {
    if (request.path == "/f1" || request.index < 2)
      answer = {500 + 2 * int(request.index), {}, "?"};
  });
  put_files(server, 3);
  EXPECT_HAS(failure(server), "1 of 3 files did not arrive: f1 (127.0.0.1");
  EXPECT_TRUE(has("f0") && has("f2"));
}

TEST_F(DownloadTest, ARefusalIsFinalAndSaysWhatToDo) {
  const std::tuple<int, std::string, std::string> refusals[] = {
      {401, "", "answered 401; set HF_TOKEN to a token that may read the dataset"},
      {403, "", "answered 403; set HF_TOKEN to a token that may read the dataset"},
      {401, "hf_x", "answered 401; check that the token in HF_TOKEN is valid"},
      {404, "", "answered 404: not found; check --base-url"},
      {451, "", "answered 451"},
      {304, "", "answered 304"}};
  for (const auto& [status, token, words] : refusals) {
    FileServer server([status = status](const FileRequest& request, FileAnswer& answer) {
      if (request.path == "/f1") answer = {status, {}, status == 304 ? "" : "<no>"};
    });
    fs::remove_all(folder_);
    put_files(server, 2);
    DownloadOptions options = quick_options();
    options.token = token;
    const std::string message = failure(server, options);
    EXPECT_HAS(message, "1 of 2 files did not arrive: f1 (127.0.0.1");
    EXPECT_HAS(message, words);
    EXPECT_EQ(server.requests().size(), 2u);
    EXPECT_TRUE(has("f0"));
    EXPECT_FALSE(has("f1"));
  }
}

TEST_F(DownloadTest, WhenEightFilesHaveFailedNoFurtherOneIsBegun) {
  FileServer server([](const FileRequest&, FileAnswer& answer) { answer = {404, {}, ""}; });
  put_files(server, 20, 100);
  const std::string message = failure(server);
  EXPECT_EQ(server.requests().size(), 8u);
  EXPECT_HAS(message, "20 of 20 files did not arrive: f0, f1, f10, f11, f12, f13, f14, f15 (");
  EXPECT_HAS(message, "; 12 were not tried any more; ");
}

// ------------------------------------------------------------------------------------------------
// Redirects, as Hugging Face sends them to its content network

TEST_F(DownloadTest, TheTokenGoesToTheFirstHostOnlyAndTheHubsSha256IsKept) {
  FileServer content;
  content.put("/blob", make_body(1), {{"ETag", etag(std::string(64, 'a'))}});
  FileServer hub([&](const FileRequest& request, FileAnswer& answer) {
    if (request.path == "/moved") answer = {307, {{"Location", "/f0"}}, "here"};
    if (request.path == "/f0") {
      answer = {302,
                {{"Location", content.url() + "/blob"},
                 {"X-Linked-Size", "300000"},
                 {"X-Linked-Etag", etag(sha256(make_body(0)))}},
                "Found. Redirecting"};
    }
  });
  DownloadOptions options = quick_options();
  options.token = "hf_secret";
  const auto get_moved = [&] { download(folder_, {{hub.url() + "/moved", "f0"}}, options); };
  // The content network sends the wrong bytes first.
  EXPECT_HAS(error_of(get_moved), "its SHA-256 is not the one");
  content.put("/blob", make_body(0), {{"ETag", etag(std::string(64, 'b'))}});
  get_moved();
  EXPECT_TRUE(read_file(folder_ / "f0") == make_body(0));
  ASSERT_FALSE(content.requests().empty());
  for (const FileRequest& request : hub.requests())
    EXPECT_EQ(header(request, "authorization"), "Bearer hf_secret") << request.path;
  for (const FileRequest& request : content.requests())
    EXPECT_EQ(header(request, "authorization"), "");
}

TEST_F(DownloadTest, AResumedRequestKeepsItsRangeBehindARedirect) {
  FileServer content([](const FileRequest& request, FileAnswer& answer) {
    if (request.index > 1) return;
    answer.cut = 100'000;
    answer.end = End::kClose;
  });
  content.put("/blob", make_body(0), {{"ETag", "\"b\""}});
  FileServer hub([&](const FileRequest&, FileAnswer& answer) {
    answer = {302, {{"Location", content.url() + "/blob"}}, ""};
  });
  download(folder_, {{hub.url() + "/f0", "f0"}}, quick_options());
  EXPECT_TRUE(read_file(folder_ / "f0") == make_body(0));
  const auto requests = content.requests();
  ASSERT_EQ(requests.size(), 3u);
  EXPECT_EQ(header(requests[2], "range"), "bytes=200000-");
}

TEST_F(DownloadTest, RedirectsThatLeadNowhereAreErrors) {
  write_file(dir_ / "secret", "<>");
  for (const std::string& target :
       {"file://" + (dir_ / "secret").string(), std::string("/f0"), std::string()}) {
    FileServer server([&](const FileRequest&, FileAnswer& answer) {
      answer = {302, {}, "elsewhere"};
      if (!target.empty()) answer.headers["Location"] = target;
    });
    put_files(server, 1);
    EXPECT_HAS(failure(server), "1 of 1 files did not arrive: f0 (");
    EXPECT_FALSE(has("f0"));
  }
}

// ------------------------------------------------------------------------------------------------
// Disks, interrupts, kills

TEST_F(DownloadTest, ADiskThatIsTooSmallIsNoticedBeforeItIsFull) {
  FileServer server([](const FileRequest&, FileAnswer& answer) {
    answer.headers["Content-Length"] = "1000000000000000";
    answer.end = End::kHold;
  });
  put_files(server, 3);
  const std::string message = failure(server);
  const std::string begin = "the files still to come need ";
  ASSERT_TRUE(message.starts_with(begin)) << message;
  EXPECT_NEAR(std::stod(message.substr(begin.size())), 3e9, 2);
  EXPECT_HAS(message, " MB, but " + folder_.string() + " has ");
  EXPECT_HAS(message, " MB free; free some space, or give --data");
  for (const auto& [name, body] : expected_) EXPECT_FALSE(has(name));
}

TEST_F(DownloadTest, AWriteThatFailsEndsTheDownloadAndLeavesNothingPartial) {
  FileServer server;
  put_files(server, 2);
  signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit small{100'000, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const std::string message = failure(server);
  setrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, SIG_DFL);
  EXPECT_HAS(message, "can't write " + (folder_ / "f").string());
  EXPECT_FALSE(has("f0") || has("f1"));
  get(server);
  expect_all();
}

TEST_F(DownloadTest, AnInterruptKeepsWhatHasArrived) {
  FileServer server([](const FileRequest& request, FileAnswer& answer) {
    if (request.index > 0) return;
    answer.cut = 200'000;
    answer.end = End::kHold;
  });
  put_files(server, 1);
  DownloadOptions options = quick_options();
  options.interrupted = [this] {
    std::error_code none;
    return fs::file_size(part(), none) == 200'000;
  };
  try {
    get(server, options);
    FAIL() << "no interrupt came";
  } catch (const Error& error) {
    EXPECT_EQ(error.code, kInterrupted);
    EXPECT_HAS(std::string(error.what()), "the same command goes on from there");
  }
  EXPECT_FALSE(has("f0"));
  get(server);
  expect_all();
  EXPECT_EQ(header(server.requests()[1], "range"), "bytes=199999-");
}

// This program again, as a process that downloads f0 to f3; the number of the new process.
pid_t start_downloading(const std::string& url, const fs::path& folder) {
  const std::string program = fs::read_symlink("/proc/self/exe");
  const char* arguments[] = {program.c_str(), "download", url.c_str(), folder.c_str(), nullptr};
  pid_t child = 0;
  EXPECT_EQ(posix_spawn(&child, program.c_str(), nullptr, nullptr,
                        const_cast<char* const*>(arguments), environ),
            0);
  return child;
}

TEST_F(DownloadTest, AKillAtAnyMomentLeavesAStateThatTheNextCallFinishes) {
  std::atomic<bool> slow = true;
  FileServer server([&](const FileRequest& request, FileAnswer& answer) {
    if (!slow) return;
    answer.piece = 20'000;  // 15 ms a file
    // One file never ends while kills go on, so that each kill finds the download unfinished.
    if (request.path == "/f3") {
      answer.cut = answer.body.size() - std::min<size_t>(answer.body.size(), 1000);
      answer.end = End::kHold;
    }
  });
  put_files(server, 4);
  std::mt19937 random(std::random_device{}());
  size_t whole = 0, parts = 0;  // what kills left behind, to show that they hit
  for (int round = 0; round < 20; ++round) {
    fs::remove_all(folder_);
    slow = true;
    for (int kill_number = 0; kill_number < 3; ++kill_number) {
      const size_t requests = server.requests().size();
      const pid_t child = start_downloading(server.url(), folder_);
      // The first kill of a round comes at any moment, the others while something arrives.
      for (int i = 0; kill_number > 0 && server.requests().size() == requests && i < 5000; ++i)
        usleep(1000);
      usleep(std::uniform_int_distribution<useconds_t>(0, 60'000)(random));
      ASSERT_EQ(kill(child, SIGKILL), 0);
      int status = 0;
      ASSERT_EQ(waitpid(child, &status, 0), child);
      EXPECT_TRUE(WIFSIGNALED(status)) << "the child ended by itself";
      if (!fs::exists(folder_)) continue;
      for (const auto& [name, body] : contents(folder_)) {
        ++(name.find(".part/") == name.npos ? whole : parts);
        if (!expected_.contains(name)) continue;
        EXPECT_TRUE(body == expected_.at(name)) << name;
      }
    }
    slow = false;
    get(server);
    expect_all();
  }
  EXPECT_GT(parts, 0u);
  EXPECT_GT(whole, 0u);
  std::printf("60 kills left %zu whole files and %zu parts\n", whole, parts);
}

// ------------------------------------------------------------------------------------------------
// What a user sees

TEST_F(DownloadTest, ALogFileGetsALineForEachFile) {
  FileServer server;
  put_files(server, 2);
  testing::internal::CaptureStderr();
  get(server);
  const std::string lines = testing::internal::GetCapturedStderr();
  EXPECT_HAS(lines, "downloading 2 of 2 files to " + folder_.string() + "\n");
  for (const char* line : {"f0: 0.3 MB (", "f1: 0.3 MB (", "(1 of 2)\n", "(2 of 2)\n"})
    EXPECT_HAS(lines, line);
  EXPECT_LACKS(lines, "\033");
}

TEST_F(DownloadTest, ATerminalGetsABarOfAllFiles) {
  FileServer server([](const FileRequest&, FileAnswer& answer) { answer.piece = 2'000; });
  put_files(server, 2);
  int terminal = -1, screen = -1;
  const winsize size{24, 60, 0, 0};
  ASSERT_EQ(openpty(&terminal, &screen, nullptr, nullptr, &size), 0);
  std::string shown;
  std::thread reader([&] {
    char buffer[4096];
    for (ssize_t count; (count = read(terminal, buffer, sizeof buffer)) > 0;)
      shown.append(buffer, static_cast<size_t>(count));
  });
  const int before = dup(STDERR_FILENO);
  dup2(screen, STDERR_FILENO);
  get(server);
  std::fflush(stderr);
  dup2(before, STDERR_FILENO);
  close(before);
  close(screen);
  reader.join();
  close(terminal);
  expect_all();
  EXPECT_HAS(shown, "f0: 0.3 MB (");
  EXPECT_HAS(shown, "  0 of 2 files\033[K");
  EXPECT_HAS(shown, "100 %  0.6/0.6 MB");
  EXPECT_HAS(shown, "  2 of 2 files\033[K");
}

}  // namespace

int run_child(const std::string& url, const fs::path& folder) {
  std::vector<Download> files;
  for (const char* name : {"f0", "f1", "f2", "f3"}) files.push_back({url + "/" + name, name});
  freopen("/dev/null", "w", stderr);
  download(folder, files, quick_options());
  return 0;
}

}  // namespace autoresearch

// Called as "download URL FOLDER" it is the process that a test kills.
int main(int argc, char** argv) {
  autoresearch::set_up_log("download_test");
  if (argc == 4 && std::string(argv[1]) == "download")
    return autoresearch::run_child(argv[2], argv[3]);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
