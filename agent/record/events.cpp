#include "agent/record/events.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <iterator>
#include <string_view>

#include "common/error.h"

namespace autoresearch {
namespace {

using nlohmann::json;

// The keys of every event, once: `f(name, member)` is called for each, to write it or to read it.

template <typename F>
void each(F& f, event::Start& e) {
  f("version", e.version), f("tag", e.tag), f("task_name", e.task_name), f("task", e.task);
  f("kit", e.kit), f("device", e.device), f("machine", e.machine), f("seed", e.seed);
  f("provider", e.provider), f("from", e.from);
}

template <typename F>
void each(F& f, event::Program& e) {
  f("sha256", e.sha256);
}

template <typename F>
void each(F& f, CallOpened& e) {
  f("id", e.id), f("n", e.n), f("provider", e.provider), f("prompt_bytes", e.prompt_bytes);
  f("room", e.room), f("largest_usd", e.largest_usd);
}

template <typename F>
void each(F& f, CallClosed& e) {
  f("id", e.id), f("tokens_in", e.tokens_in), f("tokens_cached", e.tokens_cached);
  f("tokens_cache_written", e.tokens_cache_written), f("tokens_out", e.tokens_out);
  f("tokens_reasoning", e.tokens_reasoning), f("seconds", e.seconds), f("problem", e.problem);
  f("usd", e.usd), f("assumed", e.assumed), f("stated", e.stated);
}

template <typename F>
void each(F& f, event::Replied& e) {
  f("n", e.n), f("proposer", e.proposer);
}

template <typename F>
void each(F& f, event::NotBuilt& e) {
  f("n", e.n), f("fingerprint", e.fingerprint), f("errors", e.errors);
}

template <typename F>
void each(F& f, event::Candidate& e) {
  f("n", e.n), f("commit", e.commit), f("parent", e.parent), f("idea", e.idea), f("why", e.why);
  f("proposer", e.proposer), f("fingerprint", e.fingerprint), f("constants", e.constants);
  f("areas", e.areas), f("next", e.next);
}

template <typename F>
void each(F& f, event::Withdrawn& e) {
  f("n", e.n), f("why", e.why);
}

template <typename F>
void each(F& f, event::Refused& e) {
  f("n", e.n), f("proposer", e.proposer), f("reason", e.reason);
}

template <typename F>
void each(F& f, event::Exhausted& e) {
  f("why", e.why);
}

template <typename F>
void each(F& f, event::Fits& e) {
  f("provider", e.provider), f("tokens", e.tokens);
}

template <typename F>
void each(F& f, event::Built& e) {
  f("n", e.n), f("seconds", e.seconds);
}

template <typename F>
void each(F& f, event::RunStarted& e) {
  f("n", e.n), f("attempt", e.attempt), f("pid", e.pid), f("starttime", e.start_time);
}

template <typename F>
void each(F& f, Measured& e) {
  f("seed", e.seed), f("train_exit", e.train_exit), f("timed_out", e.timed_out);
  f("over_memory", e.over_memory), f("over", e.over), f("wall_seconds", e.wall_seconds);
  f("overhead_seconds", e.overhead_seconds), f("phases", e.phases), f("sealed", e.sealed);
  f("sealed_bytes", e.sealed_bytes), f("bpb", e.bpb), f("score_problem", e.score_problem);
  f("score_seconds", e.score_seconds), f("score_rss_bytes", e.score_rss_bytes);
  f("score", e.score), f("memory_gb", e.memory_gb), f("steps", e.steps);
  f("tokens_per_second", e.tokens_per_second), f("last_words", e.last_words);
  f("fused_operations", e.fused_operations), f("busy", e.busy), f("disturbed", e.disturbed),
      f("machine", e.machine), f("broken", e.broken);
}

template <typename F>
void each(F& f, Phases& e) {
  f("startup", e.startup), f("training", e.training), f("sealing", e.sealing);
}

template <typename F>
void each(F& f, event::Measurement& e) {
  f("n", e.n), f("attempt", e.attempt), each(f, e.measured);
}

template <typename F>
void each(F& f, event::Verdict& e) {
  f("n", e.n), f("status", e.status), f("reason", e.reason), f("champion", e.champion);
  f("decision", e.decision), f("difference", e.difference), f("sigma", e.sigma);
  f("machine", e.machine);
}

template <typename F>
void each(F& f, event::Reopened& e) {
  f("n", e.n);
}

template <typename F>
void each(F& f, event::Rest& e) {
  f("seconds", e.seconds);
}

template <typename F>
void each(F& f, event::Told& e) {
  f("what", e.what);
}

template <typename F>
void each(F& f, event::Trouble& e) {
  f("what", e.what);
}

template <typename F>
void each(F& f, event::Canary& e) {
  f("problem", e.problem);
}

template <typename F>
void each(F& f, event::Tested& e) {
  f("commit", e.commit), f("bpb", e.bpb), f("problem", e.problem), f("seconds", e.seconds);
}

template <typename F>
void each(F& f, event::Proof& e) {
  f("arms", e.arms), f("changes", e.changes), f("blocks", e.blocks);
  f("reserved_pairs", e.reserved_pairs);
}

template <typename F>
void each(F& f, event::ProofStarted& e) {
  f("block", e.block), f("arm", e.arm), f("attempt", e.attempt), f("pid", e.pid);
  f("starttime", e.start_time);
}

template <typename F>
void each(F& f, event::ProofMeasured& e) {
  f("block", e.block), f("arm", e.arm), f("attempt", e.attempt), f("compiled", e.built);
  each(f, e.measured);
}

template <typename F>
void each(F& f, event::Trimmed& e) {
  f("commit", e.commit), f("changes", e.changes), f("blocks", e.blocks);
}

template <typename F>
void each(F& f, event::ProvenChange& e) {
  f("n", e.n), f("effect", e.effect), f("standard_error", e.standard_error), f("p", e.p);
  f("result", e.result);
}

template <typename F>
void each(F& f, event::Verified& e) {
  f("tip", e.tip), f("verified", e.verified), f("problem", e.problem), f("pairs", e.pairs);
  f("mean", e.mean), f("low", e.low), f("high", e.high), f("bpb", e.bpb), f("sigma", e.sigma);
  f("changes", e.changes);
}

template <typename F>
void each(F& f, event::Paused& e) {
  f("why", e.why);
}

template <typename F>
void each(F&, event::Resumed&) {}

template <typename F>
void each(F& f, event::Stop& e) {
  f("why", e.why);
}

// In the order of Event.
constexpr const char* kNames[] = {
    "start",     "program",   "call",    "call_done", "replied",   "not_built",
    "candidate", "withdrawn", "refused", "exhausted", "fits",      "built",
    "run",       "measured",  "verdict", "reopened",  "rest",      "told",
    "trouble",   "canary",    "tested",  "proof",     "proof_run", "proof_measured",
    "trimmed",   "verified",  "paused",  "resumed",   "stop"};
static_assert(std::size(kNames) == std::variant_size_v<Event>);

struct Writer {
  json& object;

  template <typename T>
  void operator()(const char* key, T& value) {
    object[key] = value;
  }
  void operator()(const char* key, Status& value) { object[key] = name_of(value); }
  void operator()(const char* key, std::optional<double>& value) {
    if (value) object[key] = *value;
  }
  void operator()(const char* key, std::optional<Phases>& value) {
    if (!value) return;
    Writer inner{object[key]};
    each(inner, *value);
  }
  void operator()(const char* key, std::vector<event::ProvenChange>& values) {
    object[key] = json::array();
    for (event::ProvenChange& value : values) {
      Writer inner{object[key].emplace_back()};
      each(inner, value);
    }
  }
};

// Without these an event says nothing; a figure that is missing is as if it were not measured.
constexpr std::string_view kRequired[] = {"id",        "n",     "attempt", "commit", "status",
                                          "starttime", "block", "arm",     "arms",   "tip"};

struct Reader {
  const json& object;

  // A figure that was not finite was written as null.
  bool has(const char* key) const { return object.contains(key) && !object.at(key).is_null(); }

  template <typename T>
  void operator()(const char* key, T& value) {
    const bool required =
        std::find(std::begin(kRequired), std::end(kRequired), key) != std::end(kRequired);
    if (required || has(key)) value = object.at(key).get<T>();
  }
  void operator()(const char* key, Status& value) {
    const auto status = status_of(object.at(key).get<std::string>());
    check(status && *status != Status::kOpen,
          "'" + object.at(key).get<std::string>() + "' is not a status");
    value = *status;
  }
  void operator()(const char* key, std::optional<double>& value) {
    if (has(key)) value = object.at(key).get<double>();
  }
  void operator()(const char* key, std::optional<Phases>& value) {
    if (!object.contains(key)) return;
    value.emplace();
    Reader inner{object.at(key)};
    each(inner, *value);
  }
  void operator()(const char* key, std::vector<event::ProvenChange>& values) {
    if (!object.contains(key)) return;
    for (const json& one : object.at(key)) {
      Reader inner{one};
      each(inner, values.emplace_back());
    }
  }
};

// Reads the event that has number `index` in Event.
template <size_t index = 0>
Event read_event(size_t wanted, const json& object) {
  if constexpr (index < std::variant_size_v<Event>) {
    if (index != wanted) return read_event<index + 1>(wanted, object);
    std::variant_alternative_t<index, Event> read;
    Reader reader{object};
    each(reader, read);
    return read;
  } else {
    throw Error("no such event");
  }
}

}  // namespace

Event as_event(const CallEvent& call) {
  return std::visit([](const auto& event) -> Event { return event; }, call);
}

json to_json(const Entry& entry) {
  json object = {{"event", kNames[entry.event.index()]}};
  Event copy = entry.event;
  std::visit(
      [&](auto& event) {
        Writer writer{object};
        each(writer, event);
      },
      copy);
  object["time"] = entry.time;
  return object;
}

std::optional<Entry> entry_from(const json& object) {
  const std::string name = object.at("event").get<std::string>();
  for (size_t i = 0; i < std::size(kNames); ++i)
    if (name == kNames[i]) {
      Entry entry{read_event(i, object), object.value("time", "")};
      auto* start = std::get_if<event::Start>(&entry.event);
      if (start && !object.contains("version")) start->version = 1;  // which had no such key
      return entry;
    }
  return std::nullopt;
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
  const auto second = static_cast<std::time_t>(whole);
  tm utc;
  gmtime_r(&second, &utc);
  char day[32], text[48];
  std::strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &utc);
  std::snprintf(text, sizeof text, "%s.%03dZ", day, static_cast<int>(1000 * (seconds - whole)));
  return text;
}

}  // namespace autoresearch
