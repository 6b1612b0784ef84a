#include "agent/llm/endpoint.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>
#include <utility>

#include "agent/money.h"
#include "agent/text.h"
#include "common/error.h"
#include "common/process.h"

namespace autoresearch {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr double kLongestWait = 60;  // seconds between tries
constexpr int kMostRequests = 24;    // within one ask(), whatever the other side says
constexpr int kMostEmpties = 2;      // empty answers within one ask()
constexpr int kMostSlow = 2;         // failures within one ask() that took longer than its patience
constexpr int64_t kWidest = 2;       // times max_output_tokens, for an answer that was cut
constexpr size_t kMaxMessage = 240;  // characters of another program's words in a problem line

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// False when an interrupt came.
bool sleep_for(double seconds) {
  const auto start = Clock::now();
  while (seconds_since(start) < seconds) {
    if (interrupt_requested()) return false;
    const double left = std::clamp(seconds - seconds_since(start), 0.0, 0.1);
    std::this_thread::sleep_for(std::chrono::duration<double>(left));
  }
  return !interrupt_requested();
}

// The address that calls go to; people paste it with and without its last part. A query (Azure's
// ?api-version=) stays behind it.
std::string full_url(std::string base, const Wire& wire) {
  if (base.empty()) base = wire.default_base_url();
  const size_t end = std::min(base.find_first_of("?#"), base.size());
  const std::string path = wire.path(), query = base.substr(end);
  base.resize(end);
  while (base.ends_with("/")) base.pop_back();
  if (base.ends_with(path)) base.resize(base.size() - path.size());
  return base + path + query;
}

// The provider's usual key is for its own host; another one gets the key that was named for it.
std::string key_variable(const ProviderOptions& options, const Wire& wire) {
  if (!options.key_env.empty()) return options.key_env;
  const std::string own = wire.default_base_url();
  const bool is_own = options.base_url.empty() || origin_of(options.base_url) == origin_of(own);
  return is_own ? wire.default_key_env() : "";
}

std::string note(int attempt, double wait) {
  std::string text;
  if (attempt > 0) text = " (asked " + std::to_string(attempt + 1) + " times)";
  if (wait > 0) text += "; it asks to wait " + std::to_string(std::llround(wait)) + " s";
  return text;
}

}  // namespace

Endpoint::Endpoint(const ProviderOptions& options, std::unique_ptr<Wire> wire)
    : options_(options),
      wire_(std::move(wire)),
      url_(full_url(options.base_url, *wire_)),
      shown_(shown_url(url_)),
      key_env_(key_variable(options, *wire_)),
      key_(Secret::from_environment(key_env_)),
      room_(options.max_output_tokens),
      most_room_(kWidest * options.max_output_tokens),
      room_here_(most_room_),
      random_(std::random_device()()),
      patience_(options.first_retry_seconds),
      most_stall_(std::min(options.first_stall_seconds, options.stall_seconds)) {
  check(!options.model.empty(), "no model is named; add --model ID");
  settings_ = {.model = options.model,
               .room = options.max_output_tokens,
               .context_tokens = options.context_tokens,
               .stream = options.stream,
               .temperature = options.temperature,
               .effort = options.reasoning_effort};
}

Reply Endpoint::ask(const std::vector<Message>& conversation) {
  const auto start = Clock::now();
  Reply reply = ask_until_done(conversation);
  if (interrupt_requested() && !reply.problem.empty()) {
    reply = failed_reply("interrupted while waiting for " + shown_, false);
  }
  most_stall_ = options_.stall_seconds;
  patience_ = reply.problem.empty() || reply.too_long ? options_.retry_seconds : 0;
  if (!reply.problem.empty()) reply.text.clear();
  reply.provider = name();
  reply.seconds = seconds_since(start);
  return reply;
}

// Patience is for waiting: an answer of minutes that breaks off has used up none of it. But one
// that fails so slowly a second time is not waited for again; silence is nothing but waiting.
Reply Endpoint::ask_until_done(const std::vector<Message>& conversation) {
  settings_.room = std::min(room_, most_room_);
  room_here_ = most_room_;
  empties_ = 0;
  double waited = 0;
  int waits = 0, slow = 0;
  for (int request = 1;; ++request) {
    Step step = ask_once(conversation);
    if (step.next == Next::kDone || interrupt_requested()) return step.reply;
    if (step.next == Next::kAgain) {
      if (request < kMostRequests) continue;
      return problem(shown_ + " refused " + std::to_string(request) + " requests in a row",
                     Next::kDone)
          .reply;
    }
    slow += step.reply.seconds > patience_;
    if (step.silent) waited += step.reply.seconds;
    const double wait =
        step.reply.wait > 0 ? step.reply.wait : back_off(options_.first_wait, waits, random_);
    const bool patient = waited + wait <= patience_ && slow < kMostSlow;
    if (request < kMostRequests && patient && sleep_for(wait)) {
      waited += wait;
      ++waits;
      continue;
    }
    step.reply.problem += note(waits, step.reply.wait);
    return step.reply;
  }
}

// One request, in the books before and after.
Endpoint::Step Endpoint::ask_once(const std::vector<Message>& conversation) {
  const auto start = Clock::now();
  if (!wire_->fits(conversation, settings_)) {
    Step step = problem("the conversation does not fit into --context-tokens " +
                            std::to_string(settings_.context_tokens),
                        Next::kDone);
    step.reply.too_long = true;
    return step;
  }
  const std::string body = request_body(conversation);
  std::optional<int64_t> id;
  if (options_.ledger) {
    const std::string& priced = options_.price_name.empty() ? options_.model : options_.price_name;
    id = options_.ledger->open(name(), priced, body.size(), settings_.room);
    if (!id) {
      Step step = problem("--max-usd has no room for another call of " + name(), Next::kDone);
      step.reply.used_up = step.reply.fatal = true;
      return step;
    }
  }
  Step step = exchange(body);
  step.reply.seconds = seconds_since(start);
  if (id) {
    using Billed = Ledger::Billed;
    options_.ledger->close(*id, step.reply,
                           step.counted ? Billed::kReported
                           : step.sent  ? Billed::kUnknown
                                        : Billed::kNothing);
  }
  return step;
}

Endpoint::Step Endpoint::exchange(const std::string& body) {
  HttpPost request{.url = url_, .body = body, .headers = wire_->headers(key_.value())};
  // Without the empty Expect, libcurl waits a second for servers that don't know "100-continue".
  request.headers.insert(request.headers.end(),
                         {"Content-Type: application/json", "User-Agent: autoresearch", "Expect:"});
  request.stall_seconds = request.silence_seconds = most_stall_;
  if (settings_.stream) {
    const double silence = options_.silence_seconds * (url_.starts_with("https:") ? 1 : 2);
    request.silence_seconds = std::min(most_stall_, silence);
  }
  AnswerReader reader(*wire_, settings_.stream);
  const HttpResponse response =
      post(request, [&](std::string_view bytes) { return reader.feed(bytes); });
  if (response.status >= 300) {
    return judge_error(read_api_error(response.status, response.error_body), response);
  }
  const Answer answer = reader.finish();
  if (!answer.error.is_null()) {
    Step step = judge_error(read_inner_error(answer.error), response);
    step.sent = !answer.text.empty() || answer.reasoned;
    return step;
  }
  // A server that keeps the connection open after its last word has said it all.
  if (response.failure != HttpResponse::Failure::kNone && !answer.finished) {
    return judge_transport(response);
  }
  return judge_answer(answer);
}

Endpoint::Step Endpoint::judge_transport(const HttpResponse& response) const {
  using Failure = HttpResponse::Failure;
  const std::string words = one_line(key_.removed_from(response.problem), kMaxMessage);
  const bool unknown = response.failure == Failure::kUnknownHost;
  const bool wrong = response.failure == Failure::kBadAddress;
  const std::string text = "can't reach " + shown_ + ": " + words +
                           (unknown || wrong ? "; check --base-url and the network" : "");
  if (wrong) return fatal(text);
  Step step = problem(text, Next::kWait);
  step.sent = !unknown && response.failure != Failure::kUnreachable;
  step.silent = response.silent;
  return step;
}

// An error in place of an answer is not billed; exchange() knows of one that cut an answer short.
Endpoint::Step Endpoint::judge_error(const ApiError& error, const HttpResponse& response) {
  if (error.status < 400) {
    const std::string where =
        response.location.empty() ? "" : " to " + shown_url(response.location);
    return fatal(shown_ + " answered " + std::to_string(error.status) + where +
                 ", which is not followed; check --base-url");
  }
  const auto header = response.headers.find("x-should-retry");
  const Remedy remedy = remedy_for(error, header == response.headers.end() ? "" : header->second);
  if (adapt(error, remedy)) return {.reply = {}, .next = Next::kAgain, .sent = false};
  const std::string said =
      shown_ + " answered " + std::to_string(error.status) + ": " + quoted(error.message);
  Step step = remedy == Remedy::kNoCredit ? fatal(said + "; check the account's credit")
              : remedy == Remedy::kGiveUp
                  ? fatal((error.status == 401 ? "" : said) + advice_for(error.status))
                  : problem(said, remedy == Remedy::kWait ? Next::kWait : Next::kDone);
  step.reply.too_long = remedy == Remedy::kShorten || remedy == Remedy::kLessRoom;
  step.reply.wait = response.retry_after > 0 ? response.retry_after : error.retry_after;
  step.sent = false;
  return step;
}

// Asks for less, where that is what the endpoint refuses. False where nothing was changed.
bool Endpoint::adapt(const ApiError& error, Remedy remedy) {
  if (remedy == Remedy::kLessRoom) {
    const int64_t room = smaller_room(error, settings_.room);
    if (room == 0) return false;
    settings_.room = room_here_ = room;
    if (!counts_the_prompt(error)) most_room_ = room;
    return true;
  }
  if (remedy != Remedy::kGiveUp) return false;
  std::vector<std::string> candidates = wire_->droppable();
  std::erase_if(candidates, [&](const std::string& name) { return !settings_.has(name); });
  const std::string refused = refused_parameter(error, candidates);
  if (refused.empty()) return false;
  settings_.dropped.insert(refused);
  if (refused == "stream") settings_.stream = false;
  return true;
}

// Some servers repeat a refused key, so the words of a 401 are left out.
std::string Endpoint::advice_for(long status) const {
  if (status == 401 && key_.empty()) {
    return shown_ + " wants a key (401); " +
           (key_env_.empty() ? "name its variable with --api-key-env, or #KEY_ENV of a fallback"
                             : "export " + key_env_ + "=...");
  }
  const std::string check_key = "check the key in $" + key_env_;
  if (status == 401) return shown_ + " refuses the key (401); " + check_key;
  if (status == 403) return "; " + check_key;
  if (status == 404) return "; check --model " + options_.model + " and --base-url";
  return "; check --model " + options_.model;
}

Endpoint::Step Endpoint::judge_answer(const Answer& answer) {
  Step step;
  step.reply.tokens_in = answer.tokens_in;
  step.reply.tokens_cached = answer.tokens_cached;
  step.reply.tokens_cache_written = answer.tokens_cache_written;
  step.reply.tokens_out = answer.tokens_out;
  step.reply.tokens_reasoning = answer.tokens_reasoning;
  step.reply.cost = answer.cost;
  step.counted = answer.counted && answer.finished;  // Anthropic's first event counts one token out
  if (answer.malformed || !answer.finished) {
    step.reply.problem =
        answer.malformed || (answer.text.empty() && !answer.reasoned)
            ? shown_ + " sent something that is no answer of a model; check --base-url"
            : shown_ + " broke off in the middle of its answer";
    step.next = Next::kWait;
    return step;
  }
  return judge_text(answer, std::move(step));
}

// A whole answer: is it one that can be worked with?
Endpoint::Step Endpoint::judge_text(const Answer& answer, Step step) {
  const bool empty = trim(answer.text).empty();
  if (!answer.refusal.empty()) {
    step.reply.problem = name() + " refused to answer: " + quoted(answer.refusal);
    return step;
  }
  if (!answer.odd_end.empty()) {
    step.reply.problem = shown_ + " ended its answer with '" + quoted(answer.odd_end) + "'";
    step.next = Next::kWait;
    return step;
  }
  if (answer.truncated || (empty && answer.reasoned)) {
    if (widen()) {
      step.next = Next::kAgain;
      return step;
    }
    if (empty) {
      step.reply.problem = name() + " only reasoned and gave no answer within " +
                           std::to_string(settings_.room) +
                           " tokens; raise --max-output-tokens or lower --reasoning-effort";
      return step;
    }
  }
  if (empty && ++empties_ <= kMostEmpties) {
    step.reply.problem = name() + " gave an empty answer";
    step.next = Next::kWait;
    return step;
  }
  if (empty)
    step.reply.problem = name() + " gave an empty answer " + std::to_string(empties_) + " times";
  step.reply.text = key_.empty() ? answer.text : key_.removed_from(answer.text);
  step.reply.truncated = answer.truncated;
  return step;
}

// More room for an answer that was cut, for as long as this provider lives: a model that reasons at
// length does so every time. False where it has all there is.
bool Endpoint::widen() {
  if (settings_.room >= room_here_) return false;
  settings_.room = room_ = room_here_;
  return true;
}

std::string Endpoint::request_body(const std::vector<Message>& conversation) const {
  json body = wire_->request(conversation, settings_);
  for (const std::string& name : settings_.dropped) body.erase(name);
  return body.dump(-1, ' ', false, json::error_handler_t::replace);
}

// The other side's words, short and without the key.
std::string Endpoint::quoted(const std::string& words) const {
  return first_chars(one_line(key_.removed_from(words), words.size()), kMaxMessage);
}

Endpoint::Step Endpoint::problem(const std::string& text, Next next) const {
  return {.reply = failed_reply(text, false), .next = next};
}

Endpoint::Step Endpoint::fatal(const std::string& text) const {
  return {.reply = failed_reply(text, true), .next = Next::kDone, .sent = false};
}

double back_off(double first, int attempt, std::mt19937& random) {
  const double wait = std::min(kLongestWait, first * std::exp2(std::min(attempt, 10)));
  return wait * std::uniform_real_distribution<double>(0.75, 1.25)(random);
}

}  // namespace autoresearch
