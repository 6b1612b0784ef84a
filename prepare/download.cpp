#include "prepare/download.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <thread>

#include "common/back_off.h"
#include "common/error.h"
#include "common/log.h"
#include "common/progress.h"
#include "prepare/fetch.h"
#include "prepare/part_file.h"
#include "prepare/threads.h"

namespace autoresearch {
namespace {

using Clock = std::chrono::steady_clock;
using Kind = Outcome::Kind;

constexpr double kMega = 1e6;
constexpr int kMostDamaged = 3;      // times that a file may arrive whole, but wrong
constexpr size_t kMostFailures = 8;  // files given up, after which no further one is begun
constexpr int kToldAttempts = 3;     // in a row that brought nothing new: why is told then
constexpr double kToldWait = 60;     // seconds: a pause that a user is told about
constexpr double kFirstWait = 1, kLongestWait = 60;  // seconds after a failure; doubles with each
constexpr double kLongestRetryAfter = 3600;  // a server that asks for more has the file given up

Clock::duration from_seconds(double seconds) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

// One file and how far it is.
struct Transfer {
  enum class State { kWaiting, kRunning, kDone, kFailed };

  Transfer(const fs::path& folder, const Download& wanted)
      : url(wanted.url), name(wanted.name), file(folder / wanted.name), part(file) {}

  const std::string url, name;
  const fs::path file;
  PartFile part;
  std::atomic<State> state = State::kWaiting;
  std::string reason;  // why it was given up
};

using State = Transfer::State;

// Some threads bring a file each, from its first request to the last; this one watches.
class Downloader {
 public:
  Downloader(const fs::path& folder, const std::vector<Download>& files,
             const DownloadOptions& options)
      : folder_(folder), options_(options) {
    for (const Download& file : files)
      transfers_.push_back(std::make_unique<Transfer>(folder, file));
  }

  void run();

 private:
  void find_present(Transfer& transfer);
  void watch();
  Transfer* begin_next();
  void bring(Transfer& transfer, const std::atomic<bool>& stop);
  Outcome inspect(Transfer& transfer, int& damaged);
  void finish(Transfer& transfer);
  Clock::time_point next_request(const Outcome& outcome, int attempts);
  void wait(Clock::time_point due, const std::atomic<bool>& stop);
  int64_t here() const;
  double missing() const;
  void check_space() const;
  void draw();
  size_t count(State state) const;
  [[noreturn]] void report_failures() const;

  const fs::path folder_;
  const DownloadOptions options_;
  std::vector<std::unique_ptr<Transfer>> transfers_;
  std::mutex mutex_;                // of what follows, and of which file is begun next
  Clock::time_point paused_until_;  // as a server asked, for all transfers
  std::mt19937 random_{std::random_device()()};
  bool told_ = false;     // why nothing comes
  int64_t at_start_ = 0;  // bytes that were here
  Progress bar_{"downloading", 0, "MB", kMega};
};

void Downloader::run() {
  for (const auto& transfer : transfers_) find_present(*transfer);
  const size_t missing = count(State::kWaiting);
  if (missing == 0) return;
  log_info(fmt::format("downloading {} of {} files to {}", missing, transfers_.size(),
                       folder_.native()));
  at_start_ = here();
  const auto work = [this](const std::atomic<bool>& stop) {
    for (Transfer* transfer; !stop && (transfer = begin_next());) bring(*transfer, stop);
  };
  work_together(std::min(options_.parallel, static_cast<int64_t>(missing)), work,
                [this] { watch(); });
  draw();
  if (count(State::kDone) < transfers_.size()) report_failures();
}

void Downloader::watch() {
  if (options_.interrupted && options_.interrupted()) {
    throw Error("interrupted; what has arrived is kept, and the same command goes on from there",
                kInterrupted);
  }
  check_space();
  draw();
}

// A file under its final name was whole when it got it, so only the caller's check is made.
void Downloader::find_present(Transfer& transfer) {
  transfer.part.open();
  if (!fs::exists(transfer.file)) return;
  const auto problem = options_.problem ? options_.problem(transfer.file) : std::nullopt;
  if (problem) {
    log_warning(transfer.file.string() + " is damaged (" + *problem + "); fetching it anew");
    return;
  }
  transfer.part.discard();
  transfer.state = State::kDone;
}

// The next file, if one may be begun. One that was given up keeps its place from others, so that a
// dead server or a wrong address ends in few requests, but one bad file keeps nothing from coming.
Transfer* Downloader::begin_next() {
  const std::lock_guard lock(mutex_);
  const size_t places = std::max(kMostFailures, static_cast<size_t>(options_.parallel));
  if (count(State::kRunning) + count(State::kFailed) >= places) return nullptr;
  const auto next = std::find_if(transfers_.begin(), transfers_.end(),
                                 [](const auto& one) { return one->state == State::kWaiting; });
  if (next == transfers_.end()) return nullptr;
  (*next)->state = State::kRunning;
  return next->get();
}

// Asks for a file until it is here, or given up.
void Downloader::bring(Transfer& transfer, const std::atomic<bool>& stop) {
  PartFile& part = transfer.part;
  int attempts = 0, damaged = 0;   // in a row that brought nothing new; whole, but wrong
  int64_t furthest = part.size();  // bytes that were here at best
  for (Clock::time_point due;;) {
    wait(due, stop);
    if (stop) return;
    Outcome outcome = fetch(transfer.url, options_.token, options_.stall, part, stop);
    if (outcome.kind == Kind::kWhole) outcome = inspect(transfer, damaged);
    if (outcome.kind == Kind::kWhole) return finish(transfer);
    if (stop) return;
    attempts = part.size() > furthest ? 0 : attempts + 1;
    furthest = std::max<int64_t>(furthest, part.size());
    if (outcome.retry_after > kLongestRetryAfter) {
      outcome.reason +=
          " and asks to wait " + human_seconds(outcome.retry_after) + "; try again then";
    }
    if (outcome.kind == Kind::kNever || attempts >= options_.attempts ||
        outcome.retry_after > kLongestRetryAfter) {
      transfer.reason = outcome.reason;
      transfer.state = State::kFailed;
      return;
    }
    // A user who waits for minutes is told for what, once.
    const std::lock_guard lock(mutex_);
    if (attempts == kToldAttempts && !std::exchange(told_, true))
      log_info(transfer.name + ": " + outcome.reason + "; trying again");
    due = next_request(outcome, attempts);
  }
}

// All bytes are here: are they the right ones?
Outcome Downloader::inspect(Transfer& transfer, int& damaged) {
  PartFile& part = transfer.part;
  std::optional<std::string> problem;
  if (!part.sha256().empty() && sha256_of_file(part.path()) != part.sha256())
    problem = "its SHA-256 is not the one that the server names";
  if (!problem && options_.problem) problem = options_.problem(part.path());
  if (!problem) return {Kind::kWhole, ""};
  part.discard();
  return {++damaged == kMostDamaged ? Kind::kNever : Kind::kAgain,
          "it arrived damaged: " + *problem};
}

void Downloader::finish(Transfer& transfer) {
  transfer.part.publish();
  transfer.state = State::kDone;
  log_info(fmt::format("{}: {:.1f} MB ({} of {})", transfer.name,
                       static_cast<double>(transfer.part.size()) / kMega, count(State::kDone),
                       transfers_.size()));
}

// When to ask for a file again. What a server asks for holds for all files, which come from the
// same one.
Clock::time_point Downloader::next_request(const Outcome& outcome, int attempts) {
  const double asked = outcome.retry_after;
  const auto in = [&](double seconds) {
    return Clock::now() + from_seconds(seconds * options_.second);
  };
  if (asked <= 0) return in(jittered(back_off(kFirstWait, attempts, kLongestWait), random_));
  if (asked >= kToldWait && in(asked) > paused_until_ + from_seconds(options_.second))
    log_info(outcome.reason + " and asks to wait; going on in " + human_seconds(asked));
  paused_until_ = std::max(paused_until_, in(asked));
  return in(asked * std::uniform_real_distribution<double>(1, 1.1)(random_));
}

void Downloader::wait(Clock::time_point due, const std::atomic<bool>& stop) {
  constexpr std::chrono::milliseconds kTick{20};
  while (!stop) {
    {
      const std::lock_guard lock(mutex_);
      due = std::max(due, paused_until_);
    }
    if (Clock::now() >= due) return;
    std::this_thread::sleep_until(std::min(due, Clock::now() + kTick));
  }
}

int64_t Downloader::here() const {
  int64_t bytes = 0;
  for (const auto& transfer : transfers_) bytes += transfer->part.size();
  return bytes;
}

// Bytes still to come. A file whose size no server has told yet is taken for the mean of others;
// 0 while none is known.
double Downloader::missing() const {
  double bytes = 0, sizes = 0, known = 0, unknown = 0;
  for (const auto& transfer : transfers_) {
    const int64_t size = transfer->part.whole_size();
    known += size >= 0;
    sizes += static_cast<double>(std::max<int64_t>(0, size));
    if (transfer->state == State::kDone || transfer->state == State::kFailed) continue;
    unknown += size < 0;
    if (size >= 0) bytes += static_cast<double>(size - transfer->part.size());
  }
  return known > 0 ? bytes + unknown * sizes / known : 0;
}

// The first responses tell the sizes, so nothing is asked for twice and little has been written.
void Downloader::check_space() const {
  const auto is_known = [](const auto& one) { return one->part.whole_size() >= 0; };
  const auto known = std::count_if(transfers_.begin(), transfers_.end(), is_known);
  const auto present = static_cast<int64_t>(count(State::kDone));
  const auto all = static_cast<int64_t>(transfers_.size());
  if (known < std::min(all - present, options_.parallel)) return;
  const double needed = missing(), free = static_cast<double>(fs::space(folder_).available);
  check(needed <= free,
        fmt::format("the files still to come need {:.1f} MB, but {} has {:.1f} MB free; free some "
                    "space, or give --data or AUTORESEARCH_DATA a folder on a larger disk",
                    needed / kMega, folder_.native(), free / kMega));
}

// What was here at the start counts in neither rate nor total.
void Downloader::draw() {
  const auto fresh = static_cast<double>(std::max<int64_t>(0, here() - at_start_));
  bar_.set_total(fresh + missing());
  bar_.update(fresh, fmt::format("{} of {} files", count(State::kDone), transfers_.size()));
}

size_t Downloader::count(State state) const {
  return static_cast<size_t>(std::count_if(transfers_.begin(), transfers_.end(),
                                           [&](const auto& one) { return one->state == state; }));
}

// One line: which files did not arrive, grouped by reason, and how to go on.
void Downloader::report_failures() const {
  std::map<std::string, std::string> names_by_reason;
  size_t not_begun = 0;
  for (const auto& transfer : transfers_) {
    not_begun += transfer->state == State::kWaiting;
    if (transfer->state != State::kFailed) continue;
    std::string& names = names_by_reason[transfer->reason];
    names += (names.empty() ? "" : ", ") + transfer->name;
  }
  std::string text;
  for (const auto& [reason, names] : names_by_reason)
    text += fmt::format("{}{} ({})", text.empty() ? "" : "; ", names, reason);
  if (not_begun > 0) text += fmt::format("; {} were not tried any more", not_begun);
  throw Error(
      fmt::format("{} of {} files did not arrive: {}; what has arrived is kept, and the same "
                  "command goes on from there once the cause is gone",
                  transfers_.size() - count(State::kDone), transfers_.size(), text));
}

}  // namespace

void download(const fs::path& folder, const std::vector<Download>& files,
              const DownloadOptions& options) {
  for (const Download& file : files) {
    check(file.url.starts_with("http://") || file.url.starts_with("https://"),
          "can't download " + file.url + "; give an address that begins with https:// or http://");
  }
  std::error_code error;
  fs::create_directories(folder, error);
  check(!error, "can't make the folder " + folder.string() + ": " + error.message() +
                    "; give --data or AUTORESEARCH_DATA another");
  const FileLock lock(folder / ".lock");
  Downloader(folder, files, options).run();
}

}  // namespace autoresearch
