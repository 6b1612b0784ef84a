#include "agent/record/events.h"

#include <fmt/chrono.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <iterator>
#include <string_view>
#include <utility>

#include "common/error.h"

// What is not there is no key.
template <typename T>
struct nlohmann::adl_serializer<std::optional<T>> {
  static void to_json(json& object, const std::optional<T>& value) {
    object = value ? json(*value) : json();
  }
  static void from_json(const json& object, std::optional<T>& value) { value = object.get<T>(); }
};

namespace autoresearch {

using nlohmann::json;

void to_json(json& object, Status status) { object = name_of(status); }

void from_json(const json& object, Status& status) {
  const auto named = status_of(object.get<std::string>());
  check(named && *named != Status::kOpen, "'" + object.get<std::string>() + "' is not a status");
  status = *named;
}

// The keys of every event, by which it is written and read. On disk some have other names, kOnDisk.

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(CallOpened, id, n, provider, prompt_bytes, room,
                                                largest_usd)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(CallClosed, id, tokens_in, tokens_cached,
                                                tokens_cache_written, tokens_out, tokens_reasoning,
                                                seconds, problem, usd, assumed, stated)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(MachineSpan, seconds, cpu_seconds, waited,
                                                contended, others_cpu, stolen, throttled,
                                                cpu_pressure, io_pressure, memory_pressure,
                                                suspended, stopped, major_faults, gpu_foreign,
                                                gpu_slowed, gpu_megahertz, gpu_hottest)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(MachineState, startup, training, sealing, cores,
                                                load, involuntary_switches, peak_rss_bytes)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Phases, startup, training, sealing)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Measured, seed, train_exit, timed_out, over_memory,
                                                over, wall_seconds, overhead_seconds, phases,
                                                sealed, sealed_bytes, bpb, score_problem,
                                                score_seconds, score_rss_bytes, score, memory_gb,
                                                steps, tokens_per_second, last_words,
                                                fused_operations, busy, disturbed, machine, broken)

namespace event {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Start, version, tag, task_name, task, kit, device,
                                                machine, seed, provider, from, sandbox, deadline,
                                                max_experiments, only_proof)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Program, sha256)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Replied, n, proposer)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(NotBuilt, n, fingerprint, errors)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Candidate, n, commit, parent, idea, why, proposer,
                                                fingerprint, constants, areas, next)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Withdrawn, n, why)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Refused, n, proposer, reason)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Exhausted, why)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Fits, provider, tokens)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Built, n, seconds)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(RunStarted, n, attempt, pid, start_time)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Verdict, n, status, reason, champion, decision,
                                                difference, sigma, machine)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Reopened, n)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Rest, seconds)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Told, what)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Trouble, what)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Canary, problem)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Tested, commit, bpb, problem, seconds)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Proof, arms, changes, blocks, reserved_pairs)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(ProofStarted, block, arm, attempt, pid, start_time)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Trimmed, commit, changes, blocks)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(ProvenChange, n, effect, standard_error, p, result)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Verified, tip, verified, problem, pairs, mean, low,
                                                high, bpb, sigma, changes)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Paused, why)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Stop, why)

void to_json(json& object, const Resumed&) { object = json::object(); }
void from_json(const json&, Resumed&) {}

// What was measured stands beside the other keys.

void to_json(json& object, const Measurement& e) {
  object = e.measured;
  object.update({{"n", e.n}, {"attempt", e.attempt}});
}

void from_json(const json& object, Measurement& e) {
  e = {object.at("n"), object.at("attempt"), object};
}

void to_json(json& object, const ProofMeasured& e) {
  object = e.measured;
  object.update({{"block", e.block}, {"arm", e.arm}, {"attempt", e.attempt}, {"built", e.built}});
}

void from_json(const json& object, ProofMeasured& e) {
  e = {object.at("block"), object.at("arm"), object.at("attempt"), object.value("built", true),
       object};
}

}  // namespace event

namespace {

// In the order of Event.
constexpr const char* kNames[] = {
    "start",     "program",   "call",    "call_done", "replied",   "not_built",
    "candidate", "withdrawn", "refused", "exhausted", "fits",      "built",
    "run",       "measured",  "verdict", "reopened",  "rest",      "told",
    "trouble",   "canary",    "tested",  "proof",     "proof_run", "proof_measured",
    "trimmed",   "verified",  "paused",  "resumed",   "stop"};
static_assert(std::size(kNames) == std::variant_size_v<Event>);

constexpr std::pair<const char*, const char*> kOnDisk[] = {{"start_time", "starttime"},
                                                           {"built", "compiled"}};

// Without these an event says nothing; a figure that is missing is as if it were not measured.
constexpr const char* kRequired[] = {"id",         "n",     "attempt", "commit", "status",
                                     "start_time", "block", "arm",     "arms",   "tip"};

void rename(json& object, const char* from, const char* to) {
  if (!object.contains(from)) return;
  object[to] = object[from];
  object.erase(from);
}

// A figure that was not finite was written as null.
void drop_nulls(json& value) {
  for (auto it = value.begin(); value.is_object() && it != value.end();)
    it = it->is_null() ? value.erase(it) : std::next(it);
  if (value.is_structured()) std::for_each(value.begin(), value.end(), drop_nulls);
}

// Reads the event that has number `index` in Event.
template <size_t index = 0>
Event read_event(size_t wanted, const json& object) {
  if constexpr (index < std::variant_size_v<Event>) {
    if (index != wanted) return read_event<index + 1>(wanted, object);
    static const json keys = std::variant_alternative_t<index, Event>();
    for (const char* key : kRequired)
      check(!keys.contains(key) || object.contains(key), std::string("it has no ") + key);
    return object.get<std::variant_alternative_t<index, Event>>();
  } else {
    throw Error("no such event");
  }
}

}  // namespace

Event as_event(const CallEvent& call) {
  return std::visit([](const auto& event) -> Event { return event; }, call);
}

json to_json(const Entry& entry) {
  json object = std::visit([](const auto& event) { return json(event); }, entry.event);
  drop_nulls(object);
  for (const auto& [name, on_disk] : kOnDisk) rename(object, name, on_disk);
  object["event"] = kNames[entry.event.index()];
  object["time"] = entry.time;
  return object;
}

std::optional<Entry> entry_from(const json& object) {
  const auto name = object.at("event").get<std::string>();
  const auto known = std::find(std::begin(kNames), std::end(kNames), name);
  if (known == std::end(kNames)) return std::nullopt;
  json keys = object;
  for (const auto& [name, on_disk] : kOnDisk) rename(keys, on_disk, name);
  drop_nulls(keys);
  const auto index = static_cast<size_t>(known - std::begin(kNames));
  Entry entry{read_event(index, keys), object.value("time", "")};
  auto* start = std::get_if<event::Start>(&entry.event);
  if (start && !object.contains("version")) start->version = 1;  // which had no such key
  return entry;
}

std::optional<double> seconds_of_utc(const std::string& utc) {
  tm parts = {};
  const char* rest = strptime(utc.c_str(), "%Y-%m-%dT%H:%M:%S", &parts);
  if (rest == nullptr) return std::nullopt;
  const double fraction = *rest == '.' ? std::strtod(rest, nullptr) : 0;
  return static_cast<double>(timegm(&parts)) + fraction;
}

std::string utc_text(double seconds) {
  const double whole = std::floor(seconds);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(static_cast<std::time_t>(whole)),
                     static_cast<int>(1000 * (seconds - whole)));
}

}  // namespace autoresearch
