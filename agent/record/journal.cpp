#include "agent/record/journal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "common/error.h"

namespace autoresearch {
namespace {

using nlohmann::json;

struct Parsed {
  std::vector<Entry> entries;
  size_t whole = 0;  // bytes up to the end of the last whole line
};

// A line that was acknowledged ends and holds no zero byte, because both come with the fsync.
Parsed parse(const std::string& bytes, const fs::path& path) {
  Parsed parsed;
  for (int64_t number = 1; parsed.whole < bytes.size(); ++number) {
    const size_t end = bytes.find('\n', parsed.whole);
    if (end == std::string::npos) break;
    const std::string_view line(bytes.data() + parsed.whole, end - parsed.whole);
    const bool last = end + 1 == bytes.size();
    if (last && line.find('\0') != std::string_view::npos) break;
    try {
      if (auto entry = entry_from(json::parse(line))) parsed.entries.push_back(std::move(*entry));
    } catch (const std::exception&) {
      throw Error(fmt::format(
          "{} line {} is not an event; restore the file, or start a new run with another --tag",
          path.native(), number));
    }
    parsed.whole = end + 1;
  }
  return parsed;
}

void fail(const std::string& what, const fs::path& path) {
  throw DurabilityError("can't " + what + " " + path.string() + ": " + std::strerror(errno) +
                        "; the run stops here, go on with the same command once the disk is well");
}

}  // namespace

Journal::Journal(const fs::path& path, std::function<double()> clock)
    : lock_(path.string() + ".lock"), path_(path), clock_(std::move(clock)) {
  const bool is_new = !fs::exists(path);
  const std::string bytes = is_new ? "" : read_file(path);
  Parsed parsed = parse(bytes, path);
  earlier_ = std::move(parsed.entries);
  fd_ = open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
  if (fd_ < 0) fail("open", path);
  try {
    if (parsed.whole < bytes.size()) {
      if (ftruncate(fd_, static_cast<off_t>(parsed.whole)) != 0) fail("cut", path);
    }
    // Also when nothing was cut: the lines that are taken for true must be on disk from here on.
    if (fsync(fd_) != 0) fail("sync", path);
    sync_path(fs::absolute(path).parent_path());
  } catch (...) {
    close(fd_);
    throw;
  }
}

Journal::~Journal() { close(fd_); }

Entry Journal::append(const Event& event) {
  if (failed_)
    throw DurabilityError("an earlier write to " + path_.string() +
                          " failed; end the run and start again");
  const std::string line =
      to_json({event, utc_text(clock_())})
          .dump(/*indent=*/-1, ' ', /*ensure_ascii=*/false, json::error_handler_t::replace) +
      "\n";
  failed_ = true;
  ssize_t count;
  do count = write(fd_, line.data(), line.size());
  while (count < 0 && errno == EINTR);
  if (count >= 0 && count < static_cast<ssize_t>(line.size())) errno = ENOSPC;
  if (count != static_cast<ssize_t>(line.size())) fail("write", path_);
  if (fsync(fd_) != 0) fail("sync", path_);
  failed_ = false;
  return *entry_from(json::parse(line));  // without bad UTF-8, as a reader will see it
}

std::vector<Entry> read_journal(const fs::path& path) {
  return parse(read_file(path), path).entries;
}

double time_of_last(const std::vector<Entry>& entries) {
  return entries.empty() ? 0 : seconds_of_utc(entries.back().time).value_or(0);
}

std::vector<CallEvent> calls_in(const std::vector<Entry>& entries) {
  std::vector<CallEvent> calls;
  for (const Entry& entry : entries) {
    if (const auto* opened = std::get_if<CallOpened>(&entry.event)) calls.push_back(*opened);
    if (const auto* closed = std::get_if<CallClosed>(&entry.event)) calls.push_back(*closed);
  }
  return calls;
}

std::map<std::string, int64_t> replies_in(const std::vector<Entry>& entries) {
  std::map<std::string, int64_t> replies;
  for (const Entry& entry : entries)
    if (const auto* replied = std::get_if<event::Replied>(&entry.event))
      ++replies[replied->proposer];
  return replies;
}

}  // namespace autoresearch
