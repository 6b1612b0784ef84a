#include "agent/llm/endpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cmath>
#include <ctime>
#include <thread>
#include <utility>

#include "agent/llm/complaint.h"
#include "agent/llm/money.h"
#include "common/back_off.h"
#include "common/curl.h"
#include "common/error.h"
#include "common/http.h"
#include "common/process.h"
#include "common/text.h"

namespace autoresearch {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr char kSystemRole[] = "system role";  // among what an endpoint refuses

constexpr double kLongestWait = 60;  // seconds between tries
constexpr int kMostRequests = 24;    // within one ask(), whatever the other side says
constexpr int kMostEmpties = 2;      // empty answers within one ask()
constexpr int kMostSlow = 2;      // failures within one ask() that took longer than all its waiting
constexpr int64_t kWidest = 2;    // times max_output_tokens, for an answer that was cut
constexpr double kMostGrown = 4;  // times the patience that an endpoint begins with
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

// "NAME=VARIABLE" of --header.
std::pair<std::string, Secret> header_of(const std::string& text) {
  const size_t equals = text.find('=');
  const std::string name = text.substr(0, equals);
  const bool named = !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '-' || c == '_';
  });
  check(
      named && equals != std::string::npos,
      fmt::format("--header '{}' is not NAME=VARIABLE, a header and the environment variable that "
                  "holds its value",
                  text));
  return {name, Secret::header_from_environment(text.substr(equals + 1))};
}

// For templates that have no place for a system turn: its words begin the first user's turn.
std::vector<Message> system_as_user(std::vector<Message> conversation) {
  for (Message& message : conversation)
    if (message.role == "system") message.role = "user";
  return conversation;
}

std::string note(int attempt, double wait) {
  return (attempt > 0 ? fmt::format(" (asked {} times)", attempt + 1) : "") +
         (wait > 0 ? fmt::format("; it asks to wait {:.0f} s", wait) : "");
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
      retry_seconds_(options.first_retry_seconds) {
  check(!options.model.empty(), "no model is named; add --model ID");
  for (const std::string& header : options.headers) headers_.push_back(header_of(header));
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
  first_ = false;
  retry_seconds_ = reply.problem.empty() || reply.too_long ? options_.retry_seconds : 0;
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
  afforded_ = false;
  double waited = 0;
  int waits = 0, slow = 0;
  for (int request = 1;; ++request) {
    Step step = ask_once(conversation);
    if (step.next == Next::kDone || interrupt_requested()) return step.reply;
    if (step.next == Next::kAgain) {
      if (request < kMostRequests) continue;
      return failed_reply(fmt::format("{} refused {} requests in a row", shown_, request), false);
    }
    slow += step.reply.seconds > retry_seconds_;
    if (step.silent) waited += step.reply.seconds;
    const double wait = step.reply.wait > 0
                            ? step.reply.wait
                            : jittered(back_off(options_.first_wait, waits, kLongestWait), random_);
    const bool patient = waited + wait <= retry_seconds_ && slow < kMostSlow;
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
    Step step = problem(fmt::format("the conversation does not fit into --context-tokens {}",
                                    settings_.context_tokens),
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

// Another path on the same origin is followed once; the key may go there.
Endpoint::Step Endpoint::exchange(const std::string& body) {
  AnswerReader reader(*wire_, settings_.stream);
  HttpResponse response = send(body, reader);
  const bool moved = response.status == 307 || response.status == 308;
  if (moved && !response.location.empty() && origin_of(response.location) == origin_of(url_)) {
    url_ = response.location;
    response = send(body, reader);
  }
  Step step = judge(reader.finish(), response);
  if (!step.reply.problem.empty() && !response.proxy.empty())
    step.reply.problem += " (through the proxy " + response.proxy + ")";
  if (response.silent && !first_) patience_grown_ = grown_patience(patience_grown_);
  return step;
}

Patience Endpoint::patience() const {
  Patience now = patience_for(url_, settings_.stream, first_, options_.patience);
  for (double* seconds : {&now.silence, &now.stall, &now.limit}) *seconds *= patience_grown_;
  return now;
}

HttpResponse Endpoint::send(const std::string& body, AnswerReader& reader) {
  return post({.url = url_, .body = body, .headers = header_lines(), .patience = patience()},
              [&](std::string_view bytes) { return reader.feed(bytes); });
}

Endpoint::Step Endpoint::judge(const Answer& answer, const HttpResponse& response) {
  if (response.status >= 400)
    return judge_error(read_api_error(response.status, response.error_body), response);
  if (response.status >= 300) return judge_redirect(response);
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
  const std::string words = one_line(without_secrets(response.problem), kMaxMessage);
  const bool unknown = response.failure == Failure::kUnknownHost;
  const bool wrong = response.failure == Failure::kBadAddress;
  if (response.failure == Failure::kUntrusted)
    return fatal("the certificate of " + shown_ + " is not trusted: " + words +
                 certificate_advice());
  const std::string text = "can't reach " + shown_ + ": " + words +
                           (unknown || wrong ? "; check --base-url and the network" : "");
  if (wrong) return fatal(text);
  Step step = problem(text, Next::kWait);
  step.sent = !unknown && response.failure != Failure::kUnreachable;
  step.silent = response.silent;
  return step;
}

Endpoint::Step Endpoint::judge_redirect(const HttpResponse& response) const {
  const std::string answered = fmt::format("{} answered {}", shown_, response.status);
  if (response.location.empty()) return fatal(answered + "; check --base-url");
  return fatal(
      fmt::format("{0} to {1}, which is not followed; if that is right, use --base-url {1}",
                  answered, shown_url(response.location)));
}

// An error in place of an answer is not billed; judge() knows of one that cut an answer short.
Endpoint::Step Endpoint::judge_error(const ApiError& error, const HttpResponse& response) {
  const Remedy remedy = remedy_for(error, header(response.headers, "x-should-retry"));
  if (adapt(error, remedy)) return {.reply = {}, .next = Next::kAgain, .sent = false};
  const std::string said =
      fmt::format("{} answered {}: {}", shown_,
                  response.status < 300 ? "with an error" : fmt::to_string(error.status),
                  quoted(error.message));
  const bool short_of_credit =
      remedy == Remedy::kNoCredit || (remedy == Remedy::kLessRoom && affords_less(error));
  double wait = response.retry_after > 0 ? response.retry_after : error.retry_after;
  if (wait <= 0 && (short_of_credit || error.status == 429))
    wait = seconds_named(error.message, std::time(nullptr));
  Step step = short_of_credit && wait > 0 ? problem(said, Next::kDone)
              : short_of_credit           ? fatal(said + "; check the account's credit")
              : remedy == Remedy::kGiveUp
                  ? fatal(said + advice_for(error))
                  : problem(said, remedy == Remedy::kWait ? Next::kWait : Next::kDone);
  step.reply.too_long =
      !short_of_credit && (remedy == Remedy::kShorten || remedy == Remedy::kLessRoom);
  step.reply.wait = wait;
  step.sent = false;
  return step;
}

// Asks for less, where that is what the endpoint refuses. False where nothing was changed.
bool Endpoint::adapt(const ApiError& error, Remedy remedy) {
  if (remedy == Remedy::kLessRoom) return lower_room(error);
  const bool hopeless = remedy == Remedy::kGiveUp;
  if ((hopeless || error.status == 500) && settings_.has(kSystemRole) &&
      refuses_system_role(error)) {
    settings_.dropped.insert(kSystemRole);
    return true;
  }
  if (!hopeless) return false;
  std::vector<std::string> candidates = wire_->droppable();
  std::erase_if(candidates, [&](const std::string& name) { return !settings_.has(name); });
  const std::string refused = refused_parameter(error, candidates);
  if (refused.empty()) return false;
  settings_.dropped.insert(refused);
  if (refused == "stream") settings_.stream = false;
  return true;
}

bool Endpoint::lower_room(const ApiError& error) {
  const bool afford = affords_less(error);
  const int64_t room = afford && afforded_ ? 0 : smaller_room(error, settings_.room);
  if (room == 0) return false;
  afforded_ |= afford;
  settings_.room = room_here_ = room;
  if (!afford && !counts_the_prompt(error)) most_room_ = room;
  return true;
}

std::string Endpoint::advice_for(const ApiError& error) const {
  const std::string name_key =
      key_env_.empty() ? "name its variable with --api-key-env, or #KEY_ENV of a fallback"
      : key_.empty()   ? "export " + key_env_ + "=..."
                       : "check the key in $" + key_env_;
  const std::string own_header = has_any(lower(error.message), {"header"})
                                     ? "; a header of its own is sent by --header NAME=VARIABLE"
                                     : "";
  if (error.status == 401 || error.status == 403) return "; " + name_key + own_header;
  if (error.status == 404) return "; check --model " + options_.model + " and --base-url";
  return "; check --model " + options_.model + own_header;
}

Endpoint::Step Endpoint::judge_answer(const Answer& answer) {
  Step step;
  static_cast<Tokens&>(step.reply) = answer;
  step.reply.cost = answer.cost;
  step.counted = answer.counted && answer.finished;  // Anthropic's first event counts one token out
  if (answer.malformed || !answer.finished) {
    const bool nothing = answer.text.empty() && !answer.reasoned;
    step.reply.problem =
        shown_ + (nothing ? " sent something that is no answer of a model; check --base-url"
                  : answer.malformed ? " sent an answer with a damaged line in it"
                                     : " broke off in the middle of its answer");
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
  if (answer.truncated && widen()) {
    step.next = Next::kAgain;
    return step;
  }
  const bool in_thoughts = empty && !answer.truncated && is_whole_edit(answer.thoughts);
  if (empty && !in_thoughts) return judge_empty(answer, std::move(step));
  step.reply.text = without_secrets(in_thoughts ? answer.thoughts : answer.text);
  step.reply.truncated = answer.truncated;
  step.reply.note = in_thoughts ? "its whole answer stood in the field for reasoning, and is used"
                                : oddity_of(answer);
  return step;
}

Endpoint::Step Endpoint::judge_empty(const Answer& answer, Step step) {
  std::string& problem = step.reply.problem;
  problem =
      name() + (answer.reasoned ? " only reasoned and gave no answer" : " gave an empty answer");
  if (answer.truncated) {
    problem += fmt::format(
        " within {} tokens; raise --max-output-tokens or lower --reasoning-effort", settings_.room);
    return step;
  }
  step.reply.is_there = answer.reasoned;
  if (++empties_ <= kMostEmpties)
    step.next = Next::kWait;
  else
    problem += fmt::format(" {} times", empties_);
  if (answer.reasoned) problem += "; if its server parses reasoning, turn that off";
  return step;
}

// What a usable answer has that a user may want to mend.
std::string Endpoint::oddity_of(const Answer& answer) const {
  if (afforded_) return "its account's credit pays for short answers only, and is nearly used up";
  if (!answer.end.empty() && ending_of(answer.end) == Ending::kUnknown)
    return "it ends its answers with '" + quoted(answer.end) + "', which is taken for a normal end";
  if (answer.passed_over > 0) return "its stream has lines that are no JSON, which are passed over";
  return "";
}

// More room for an answer that was cut, for as long as this provider lives: a model that reasons at
// length does so every time. False where it has all there is.
bool Endpoint::widen() {
  if (settings_.room >= room_here_) return false;
  settings_.room = room_ = room_here_;
  return true;
}

std::string Endpoint::request_body(const std::vector<Message>& conversation) const {
  const bool folded = !settings_.has(kSystemRole);
  json body = wire_->request(folded ? system_as_user(conversation) : conversation, settings_);
  for (const std::string& name : settings_.dropped) body.erase(name);
  return body.dump(-1, ' ', false, json::error_handler_t::replace);
}

// A header that the user gives takes the place of the wire's own.
std::vector<std::string> Endpoint::header_lines() const {
  const bool at_home = origin_of(url_) == origin_of(wire_->default_base_url());
  std::vector<std::string> lines = wire_->headers(key_.value(), at_home);
  for (const auto& [name, value] : headers_) {
    const std::string own = lower(name) + ":";
    std::erase_if(lines, [&](const std::string& line) { return lower(line).starts_with(own); });
    lines.push_back(name + ": " + value.value());
  }
  // Without the empty Expect, libcurl waits a second for servers that don't know "100-continue".
  lines.insert(lines.end(),
               {"Content-Type: application/json", "User-Agent: autoresearch", "Expect:"});
  return lines;
}

std::string Endpoint::without_secrets(std::string words) const {
  words = key_.removed_from(std::move(words));
  for (const auto& [name, value] : headers_) words = value.removed_from(std::move(words));
  return words;
}

// The other side's words, short and without the key.
std::string Endpoint::quoted(const std::string& words) const {
  return first_chars(one_line(without_secrets(words), words.size()), kMaxMessage);
}

Endpoint::Step Endpoint::problem(const std::string& text, Next next) const {
  return {.reply = failed_reply(text, false), .next = next};
}

Endpoint::Step Endpoint::fatal(const std::string& text) const {
  return {.reply = failed_reply(text, true), .next = Next::kDone, .sent = false};
}

Patience patience_for(const std::string& url, bool stream, bool first, double wanted) {
  const bool own = is_loopback(url), remote = !own && url.starts_with("https:");
  const double limit = remote ? 900 : 3600;  // slow machines write for long, too
  if (wanted > 0) return {wanted, wanted, std::max(limit, 4 * wanted)};
  const double stall = own ? (first ? 300 : 900) : (first ? 120 : 240);
  return {remote && stream ? 90 : stall, stall, limit};
}

double grown_patience(double factor) { return std::min(2 * factor, kMostGrown); }

}  // namespace autoresearch
