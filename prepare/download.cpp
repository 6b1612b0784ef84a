#include "prepare/download.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <random>
#include <utility>

#include "common/back_off.h"
#include "common/error.h"
#include "common/log.h"
#include "common/progress.h"
#include "prepare/fetch.h"
#include "prepare/part_file.h"

namespace autoresearch {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kMega = 1e6;
constexpr double kLeastRate = 100;    // bytes/s, below which a connection counts as stalled
constexpr int kMostDamaged = 3;       // times that a file may arrive whole, but wrong
constexpr size_t kMostFailures = 8;   // files given up, after which no further one is begun
constexpr int kToldAttempts = 3;      // in a row that brought nothing new: why is told then
constexpr double kToldWait = 60;      // seconds: a pause that a user is told about
constexpr double kPollSeconds = 0.1;  // how often an interrupt is noticed

Clock::duration from_seconds(double seconds) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

// One file and how far it is.
struct Transfer {
  enum class State { kWaiting, kRunning, kDone, kFailed };

  Transfer(const fs::path& folder, const Download& wanted)
      : url(wanted.url), name(wanted.name), file(folder / wanted.name), part(file) {}

  std::string url, name;
  fs::path file;
  PartFile part;
  State state = State::kWaiting;
  bool begun = false;
  std::unique_ptr<Fetch> fetch;  // while running
  Clock::time_point due;         // no request before
  int attempts = 0;              // in a row that brought nothing new
  int damaged = 0;
  int64_t furthest = 0;  // bytes that were here at best
  std::string reason;    // of the last failure
  // The stall watch: what had been received when the watch last looked.
  Clock::time_point watched;
  int64_t received = 0;
};

using State = Transfer::State;

class Downloader {
 public:
  Downloader(const fs::path& folder, const std::vector<Download>& files,
             const DownloadOptions& options);
  ~Downloader();
  Downloader(const Downloader&) = delete;
  Downloader& operator=(const Downloader&) = delete;

  void run();

 private:
  void find_present(Transfer& transfer);
  void start_due();
  bool has_place() const;
  bool settled() const;
  void start(Transfer& transfer);
  void collect_ended();
  void settle(Transfer& transfer, const Outcome& outcome);
  void finish(Transfer& transfer);
  void again(Transfer& transfer, const std::string& reason, double retry_after);
  double pause(const Transfer& transfer, double retry_after);
  void give_up(Transfer& transfer, const std::string& reason);
  void drop_stalled();
  void check_space();
  void wait();
  void say(const std::string& line);
  void draw();
  ProgressTable::Row sum() const;
  double expected_size() const;
  size_t count(State state) const;
  [[noreturn]] void report_failures() const;

  const fs::path folder_;
  const DownloadOptions options_;
  CURLM* const multi_;
  std::vector<std::unique_ptr<Transfer>> transfers_;
  Clock::time_point paused_until_;  // as a server asked, for all transfers
  std::mt19937 random_{std::random_device()()};
  bool told_ = false;  // why nothing comes
  size_t sizes_checked_ = 0;
  ProgressTable table_{"MB", kMega};
};

Downloader::Downloader(const fs::path& folder, const std::vector<Download>& files,
                       const DownloadOptions& options)
    : folder_(folder), options_(options), multi_(curl_multi_init()) {
  check(multi_ != nullptr, "libcurl has no memory for downloads");
  for (const Download& file : files) transfers_.push_back(std::make_unique<Transfer>(folder, file));
}

Downloader::~Downloader() {
  for (const auto& transfer : transfers_) transfer->fetch.reset();
  curl_multi_cleanup(multi_);
}

void Downloader::run() {
  for (const auto& transfer : transfers_) find_present(*transfer);
  const size_t missing = count(State::kWaiting);
  if (missing == 0) return;
  log_info(fmt::format("downloading {} of {} files to {}", missing, transfers_.size(),
                       folder_.native()));
  while (true) {
    if (options_.interrupted && options_.interrupted()) {
      throw Error("interrupted; what has arrived is kept, and the same command goes on from there",
                  kInterrupted);
    }
    start_due();
    if (settled()) break;
    wait();
    collect_ended();
    drop_stalled();
    check_space();
    if (table_.due()) draw();
  }
  draw();
  if (count(State::kDone) < transfers_.size()) report_failures();
}

// A file under its final name was whole when it got it, so only the caller's check is made.
void Downloader::find_present(Transfer& transfer) {
  if (!fs::exists(transfer.file)) return;
  const auto problem = options_.problem ? options_.problem(transfer.file) : std::nullopt;
  if (problem) {
    log_warning(transfer.file.string() + " is damaged (" + *problem + "); fetching it anew");
    return;
  }
  transfer.part.discard();
  transfer.state = State::kDone;
}

// Whether a further file may be begun. One that was given up keeps its place from others, so that a
// dead server or a wrong address ends in few requests, but one bad file keeps nothing from coming.
bool Downloader::has_place() const {
  const size_t places = std::max(kMostFailures, static_cast<size_t>(options_.parallel));
  return count(State::kRunning) + count(State::kFailed) < places;
}

// Nothing is under way, and nothing will be.
bool Downloader::settled() const {
  if (count(State::kRunning) > 0) return false;
  const bool more = has_place();
  return std::none_of(transfers_.begin(), transfers_.end(), [&](const auto& one) {
    return one->state == State::kWaiting && (one->begun || more);
  });
}

void Downloader::start_due() {
  const Clock::time_point now = Clock::now();
  if (now < paused_until_) return;
  size_t running = count(State::kRunning);
  bool more = has_place();
  for (const auto& transfer : transfers_) {
    if (running >= static_cast<size_t>(options_.parallel)) break;
    const bool allowed = transfer->begun || more;
    if (transfer->state != State::kWaiting || now < transfer->due || !allowed) continue;
    start(*transfer);
    running = count(State::kRunning);
    more = has_place();
  }
}

void Downloader::start(Transfer& transfer) {
  transfer.begun = true;
  transfer.part.open(transfer.url);
  if (transfer.part.whole()) return finish(transfer);  // ended between its last byte and its name
  transfer.fetch = std::make_unique<Fetch>(multi_, transfer.url, options_.token, transfer.part);
  transfer.state = State::kRunning;
  transfer.watched = Clock::now();
  transfer.received = 0;
}

// Lets libcurl work until something happens, or something may be due.
void Downloader::wait() {
  int running = 0;
  curl_multi_perform(multi_, &running);
  if (static_cast<size_t>(running) < count(State::kRunning)) return;  // some have just ended
  const Clock::time_point now = Clock::now();
  Clock::time_point next = now + from_seconds(kPollSeconds);
  for (const auto& transfer : transfers_) {
    const Clock::time_point due = std::max(transfer->due, paused_until_);
    if (transfer->state == State::kWaiting && due > now) next = std::min(next, due);
  }
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(next - now).count();
  curl_multi_poll(multi_, nullptr, 0, static_cast<int>(std::max<long>(1, left)), nullptr);
}

void Downloader::collect_ended() {
  int left = 0;
  while (const CURLMsg* message = curl_multi_info_read(multi_, &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    const CURLcode code = message->data.result;
    const auto ended = std::find_if(transfers_.begin(), transfers_.end(), [&](const auto& one) {
      return one->fetch && one->fetch->handle() == message->easy_handle;
    });
    Transfer& transfer = **ended;
    const Outcome outcome = transfer.fetch->outcome(code);
    transfer.fetch.reset();
    settle(transfer, outcome);
  }
}

void Downloader::settle(Transfer& transfer, const Outcome& outcome) {
  switch (outcome.kind) {
    case Outcome::Kind::kWhole:
      return finish(transfer);
    case Outcome::Kind::kAgain:
      return again(transfer, outcome.reason, outcome.retry_after);
    case Outcome::Kind::kNever:
      return give_up(transfer, outcome.reason);
  }
}

// All bytes are here: are they the right ones?
void Downloader::finish(Transfer& transfer) {
  const std::string& sha256 = transfer.part.content().sha256;
  std::optional<std::string> problem;
  if (!sha256.empty() && sha256_of_file(transfer.part.path()) != sha256)
    problem = "its SHA-256 is not the one that the server names";
  if (!problem && options_.problem) problem = options_.problem(transfer.part.path());
  if (problem) {
    transfer.part.discard();
    const std::string reason = "it arrived damaged: " + *problem;
    if (++transfer.damaged == kMostDamaged) return give_up(transfer, reason);
    return again(transfer, reason, 0);
  }
  const double size = static_cast<double>(transfer.part.size());
  transfer.part.publish();
  transfer.state = State::kDone;
  if (!table_.visible()) {
    log_info(fmt::format("{}: {:.1f} MB ({} of {})", transfer.name, size / kMega,
                         count(State::kDone), transfers_.size()));
  }
}

void Downloader::again(Transfer& transfer, const std::string& reason, double retry_after) {
  const bool brought_something = transfer.part.size() > transfer.furthest;
  transfer.furthest = std::max(transfer.furthest, transfer.part.size());
  transfer.attempts = brought_something ? 0 : transfer.attempts + 1;
  transfer.reason = reason;
  if (transfer.attempts >= options_.attempts) return give_up(transfer, reason);
  if (retry_after > options_.longest_retry_after) {
    return give_up(transfer,
                   reason + " and asks to wait " + human_seconds(retry_after) + "; try again then");
  }
  // A user who waits for minutes is told for what, once.
  if (transfer.attempts == kToldAttempts && !std::exchange(told_, true))
    say(transfer.name + ": " + reason + "; trying again");
  transfer.part.close();
  transfer.state = State::kWaiting;
  transfer.due = Clock::now() + from_seconds(pause(transfer, retry_after) * options_.second);
}

// Seconds until the next request for this file. What a server asks for holds for all files, which
// come from the same one.
double Downloader::pause(const Transfer& transfer, double retry_after) {
  if (retry_after <= 0)
    return jittered(back_off(options_.first_wait, transfer.attempts, options_.longest_wait),
                    random_);
  const Clock::time_point until = Clock::now() + from_seconds(retry_after * options_.second);
  if (retry_after >= kToldWait && until > paused_until_ + from_seconds(options_.second))
    say(transfer.reason + " and asks to wait; going on in " + human_seconds(retry_after));
  paused_until_ = std::max(paused_until_, until);
  return retry_after * std::uniform_real_distribution<double>(1, 1.1)(random_);
}

void Downloader::give_up(Transfer& transfer, const std::string& reason) {
  transfer.part.close();
  transfer.state = State::kFailed;
  transfer.reason = reason;
}

void Downloader::drop_stalled() {
  const Clock::time_point now = Clock::now();
  for (const auto& transfer : transfers_) {
    if (!transfer->fetch || now - transfer->watched < from_seconds(options_.stall)) continue;
    const int64_t received = transfer->fetch->received();
    if (static_cast<double>(received - transfer->received) < kLeastRate * options_.stall) {
      transfer->fetch.reset();
      again(*transfer, "the connection stalled", 0);
    } else {
      transfer->watched = now;
      transfer->received = received;
    }
  }
}

// Bytes of a file whose size no server has told yet: the mean of the others. 0 when none is known.
double Downloader::expected_size() const {
  double bytes = 0, known = 0;
  for (const auto& transfer : transfers_) {
    if (transfer->part.content().size < 0) continue;
    bytes += static_cast<double>(transfer->part.content().size);
    ++known;
  }
  return known > 0 ? bytes / known : 0;
}

// The first responses tell the sizes, so nothing is asked for twice and little has been written.
void Downloader::check_space() {
  size_t known = 0, wanted = 0;
  double missing = 0;
  const double expected = expected_size();
  for (const auto& transfer : transfers_) {
    if (transfer->state == State::kDone) continue;
    ++wanted;
    const int64_t size = transfer->part.content().size;
    known += size >= 0;
    missing += size >= 0 ? static_cast<double>(size - transfer->part.size()) : expected;
  }
  if (known <= sizes_checked_ || known < std::min(wanted, static_cast<size_t>(options_.parallel)))
    return;
  sizes_checked_ = known;
  const double free = static_cast<double>(fs::space(folder_).available);
  check(missing <= free,
        fmt::format("the files still to come need {:.1f} MB, but {} has {:.1f} MB free; free some "
                    "space, or give --data or AUTORESEARCH_DATA a folder on a larger disk",
                    missing / kMega, folder_.native(), free / kMega));
}

void Downloader::say(const std::string& line) {
  table_.clear();
  log_info(line);
}

ProgressTable::Row Downloader::sum() const {
  ProgressTable::Row sum;
  const double expected = expected_size();
  for (const auto& transfer : transfers_) {
    const int64_t size = transfer->part.content().size;
    sum.done += static_cast<double>(transfer->part.size());
    if (transfer->begun || transfer->state == State::kWaiting)
      sum.total += size >= 0 ? static_cast<double>(size) : expected;
  }
  sum.title = fmt::format("{} of {} files", count(State::kDone), transfers_.size());
  return sum;
}

void Downloader::draw() {
  if (!table_.visible()) return;
  std::vector<ProgressTable::Row> rows;
  for (const auto& transfer : transfers_) {
    if (transfer->state != State::kRunning) continue;
    rows.push_back({transfer->name, static_cast<double>(transfer->part.size()),
                    static_cast<double>(std::max<int64_t>(0, transfer->part.content().size))});
  }
  table_.draw(rows, sum());
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
  remove_torn_notes(folder);
  start_curl();
  start_curl();
  Downloader(folder, files, options).run();
}

}  // namespace autoresearch
