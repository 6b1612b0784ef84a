#include "agent/record/journal.h"

#include <fcntl.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <unordered_set>

#include "common/error.h"
#include "common/text.h"

namespace autoresearch {
namespace {

using nlohmann::json;

struct Parsed {
  std::vector<json> events;
  size_t whole = 0;  // bytes up to the end of the last whole line
};

// A line that was acknowledged ends and holds no zero byte, because both come with the fsync.
Parsed parse(const std::string& bytes, const fs::path& path) {
  Parsed parsed;
  while (parsed.whole < bytes.size()) {
    size_t end = bytes.find('\n', parsed.whole);
    if (end == std::string::npos) break;
    std::string_view line(bytes.data() + parsed.whole, end - parsed.whole);
    bool last = end + 1 == bytes.size();
    if (last && line.find('\0') != std::string_view::npos) break;
    json event = json::parse(line, nullptr, /*allow_exceptions=*/false);
    check(event.is_object() && event.contains("event") && event["event"].is_string(),
          path.string() + " line " + std::to_string(parsed.events.size() + 1) +
              " is not an event; restore the file, or start a new run with another --tag");
    parsed.events.push_back(std::move(event));
    parsed.whole = end + 1;
  }
  return parsed;
}

std::string utc_now() {
  timeval now;
  gettimeofday(&now, nullptr);
  tm utc;
  gmtime_r(&now.tv_sec, &utc);
  char day[32], text[48];
  std::strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &utc);
  std::snprintf(text, sizeof text, "%s.%03dZ", day, static_cast<int>(now.tv_usec / 1000));
  return text;
}

void fail(const std::string& what, const fs::path& path) {
  throw DurabilityError("can't " + what + " " + path.string() + ": " + std::strerror(errno) +
                        "; the run stops here, go on with the same command once the disk is well");
}

Experiment& experiment_of(RunState& state, const json& event) {
  int64_t n = event.at("n").get<int64_t>();
  check(n >= 0 && n < static_cast<int64_t>(state.experiments.size()),
        "experiment " + std::to_string(n) + " has no candidate");
  Experiment& experiment = state.experiments[n];
  check(experiment.status.empty(), "experiment " + std::to_string(n) + " has a verdict already");
  return experiment;
}

void take_candidate(RunState& state, const json& event) {
  int64_t n = event.at("n").get<int64_t>();
  if (n == static_cast<int64_t>(state.experiments.size())) {
    state.experiments.emplace_back();
    state.experiments.back().n = n;
    state.experiments.back().start_utc = event.value("time", "");
  }
  Experiment& experiment = experiment_of(state, event);
  if (!experiment.fingerprint.empty()) experiment.failed.push_back(experiment.fingerprint);
  experiment.commit = event.at("commit").get<std::string>();
  experiment.parent = event.value("parent", "");
  experiment.idea = event.value("idea", "");
  experiment.why = event.value("why", "");
  experiment.proposer = event.value("proposer", "");
  experiment.fingerprint = event.value("fingerprint", "");
  experiment.constants = event.value("constants", std::vector<std::string>());
  experiment.areas = event.value("areas", std::vector<std::string>());
  experiment.open = false;
  experiment.interrupted = 0;
  experiment.measured.reset();
}

void take_run(RunState& state, const json& event) {
  Experiment& experiment = experiment_of(state, event);
  int attempt = event.at("attempt").get<int>();
  check(attempt == experiment.attempts + 1, "attempt " + std::to_string(attempt) +
                                                " follows attempt " +
                                                std::to_string(experiment.attempts));
  if (experiment.open) ++experiment.interrupted;
  experiment.attempts = attempt;
  experiment.open = true;
  experiment.pid = event.at("pid").get<pid_t>();
  experiment.start_time = event.at("starttime").get<uint64_t>();
  experiment.measured.reset();
}

void take_measured(RunState& state, const json& event) {
  Experiment& experiment = experiment_of(state, event);
  check(experiment.open && event.at("attempt").get<int>() == experiment.attempts,
        "the measured attempt is not the open one");
  experiment.open = false;
  experiment.measured = event;
}

void take_verdict(RunState& state, const json& event) {
  Experiment& experiment = experiment_of(state, event);
  std::string status = event.at("status").get<std::string>();
  check(status == "keep" || status == "discard" || status == "crash",
        "'" + status + "' is not a status");
  if (status == "keep") {
    check(experiment.measured.has_value(), "a candidate without a measurement is kept");
    state.best_bpb = experiment.measured->at("bpb").get<double>();
    check(std::isfinite(state.best_bpb), "a figure that is not finite is kept");
    state.champion = experiment.commit;
    state.champion_n = experiment.n;
  }
  experiment.status = status;
  experiment.reason = event.value("reason", "");
  experiment.end_utc = event.value("time", "");
  experiment.open = false;
}

void take(RunState& state, const json& event) {
  const std::string& name = event.at("event").get_ref<const std::string&>();
  if (name == "start" && state.start.is_null()) state.start = event;
  if (name == "candidate") take_candidate(state, event);
  if (name == "run") take_run(state, event);
  if (name == "measured") take_measured(state, event);
  if (name == "verdict") take_verdict(state, event);
  if (name == "refused") ++state.came_to_nothing[event.value("proposer", "")];
  // A user ended the run: the attempt that was open is no mark against its candidate.
  if (name == "stop" && !state.experiments.empty()) state.experiments.back().open = false;
}

// From the latest event back, so that a run of any length costs the same to read.
std::vector<std::string> backlog_of(const std::vector<json>& events,
                                    const std::vector<Experiment>& experiments) {
  constexpr size_t kLines = 10;
  std::unordered_set<std::string> known;
  for (const Experiment& experiment : experiments) known.insert(experiment.idea);
  std::vector<std::string> backlog;
  for (auto event = events.rbegin(); event != events.rend(); ++event) {
    auto next = event->find("next");
    if (next == event->end() || !next->is_array() || event->at("event") != "candidate") continue;
    for (auto line = next->rbegin(); line != next->rend() && backlog.size() < kLines; ++line) {
      if (line->is_string() && known.insert(line->get<std::string>()).second) {
        backlog.push_back(line->get<std::string>());
      }
    }
  }
  std::reverse(backlog.begin(), backlog.end());
  return backlog;
}

}  // namespace

Journal::Journal(const fs::path& path) : lock_(path.string() + ".lock"), path_(path) {
  bool is_new = !fs::exists(path);
  std::string bytes = is_new ? "" : read_file(path);
  Parsed parsed = parse(bytes, path);
  events_ = std::move(parsed.events);
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

void Journal::append(json event) {
  if (failed_)
    throw DurabilityError("an earlier write to " + path_.string() +
                          " failed; end the run and start again");
  event["time"] = utc_now();
  std::string line =
      event.dump(/*indent=*/-1, ' ', /*ensure_ascii=*/false, json::error_handler_t::replace) + "\n";
  json written = json::parse(line);  // what a reader will see: no bad UTF-8, null for NaN
  failed_ = true;
  ssize_t count;
  do count = write(fd_, line.data(), line.size());
  while (count < 0 && errno == EINTR);
  if (count >= 0 && count < static_cast<ssize_t>(line.size())) errno = ENOSPC;
  if (count != static_cast<ssize_t>(line.size())) fail("write", path_);
  if (fsync(fd_) != 0) fail("sync", path_);
  failed_ = false;
  events_.push_back(std::move(written));
}

const std::vector<json>& Journal::events() const { return events_; }

std::vector<json> read_journal(const fs::path& path) { return parse(read_file(path), path).events; }

RunState replay(const std::vector<json>& events) {
  RunState state;
  for (size_t i = 0; i < events.size(); ++i) {
    try {
      take(state, events[i]);
    } catch (const std::exception& problem) {  // ours, or json's for a missing or mistyped value
      throw Error("journal event " + std::to_string(i + 1) +
                  " contradicts those before it: " + problem.what() +
                  "; restore journal.jsonl, or start a new run with another --tag");
    }
  }
  state.spending = spending_of(events);
  state.backlog = backlog_of(events, state.experiments);
  return state;
}

std::string slow_operations(const RunState& state) {
  if (state.experiments.empty() || !state.experiments[0].measured) return "";
  const nlohmann::json& measured = *state.experiments[0].measured;
  const auto found = measured.find(kFusedOperations);
  if (found == measured.end() || !found->is_string() || *found == "all") return "";
  return one_line(found->get<std::string>(), 400);
}

}  // namespace autoresearch
