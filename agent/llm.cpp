#include "agent/llm.h"

#include <curl/curl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>
#include <utility>

#include "agent/json.h"
#include "agent/process.h"
#include "agent/text.h"
#include "common/error.h"
#include "common/files.h"

extern char** environ;

namespace autoresearch {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr long kConnectSeconds = 15, kCallSeconds = 600;
constexpr size_t kMaxBody = 64 << 20;  // a server that never stops sending is broken
constexpr double kFirstWait = 0.5, kLongestWait = 60;
constexpr size_t kMaxMessage = 240;  // characters of another program's words in a problem line

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

Reply failed(const std::string& problem, bool fatal) {
  Reply reply;
  reply.problem = problem;
  reply.fatal = fatal;
  return reply;
}

// ------------------------------------------------------------------------------------------------
// HTTP

struct Response {
  CURLcode code = CURLE_OK;
  std::string curl_problem;
  long status = 0;
  std::string body, location;
  double retry_after = 0;  // seconds, 0 where the server named none
};

template <typename T, void (*kFree)(T*)>
struct Owner {
  T* handle = nullptr;
  explicit Owner(T* handle) : handle(handle) {}
  ~Owner() { kFree(handle); }
  Owner(const Owner&) = delete;
  Owner& operator=(const Owner&) = delete;
};

void free_list(curl_slist* list) { curl_slist_free_all(list); }
void free_curl(CURL* curl) { curl_easy_cleanup(curl); }

size_t collect(char* data, size_t size, size_t count, void* body) {
  auto& text = *static_cast<std::string*>(body);
  if (text.size() + size * count > kMaxBody) return 0;
  text.append(data, size * count);
  return size * count;
}

int stop_on_interrupt(void*, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return interrupt_requested() ? 1 : 0;
}

void start_curl_once() {
  static const CURLcode code = curl_global_init(CURL_GLOBAL_DEFAULT);
  check(code == CURLE_OK, "libcurl can't start: " + std::string(curl_easy_strerror(code)));
}

// No redirect is followed: the key belongs to the host that the person named.
void set_options(CURL* curl, const std::string& url, const std::string& body,
                 const curl_slist* headers, Response& response, char* problem) {
  curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_ACCEPT_ENCODING, "");
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
  curl_easy_setopt(curl, CURLOPT_TIMEOUT, kCallSeconds);
  curl_easy_setopt(curl, CURLOPT_TCP_KEEPALIVE, 1L);
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
  curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body.data());
  curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, collect);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &response.body);
  curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, stop_on_interrupt);
  curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, problem);
}

Response post(const std::string& url, const std::string& body,
              const std::vector<std::string>& headers) {
  Response response;
  char problem[CURL_ERROR_SIZE] = "";
  Owner<CURL, free_curl> curl(curl_easy_init());
  check(curl.handle != nullptr, "libcurl has no memory for another call");
  Owner<curl_slist, free_list> list(nullptr);
  for (const std::string& header : headers) {
    list.handle = curl_slist_append(list.handle, header.c_str());
  }
  set_options(curl.handle, url, body, list.handle, response, problem);
  response.code = curl_easy_perform(curl.handle);
  response.curl_problem = *problem ? problem : curl_easy_strerror(response.code);
  curl_easy_getinfo(curl.handle, CURLINFO_RESPONSE_CODE, &response.status);
  // Both forms, seconds and an HTTP date, arrive here as seconds from now.
  curl_off_t wait = 0;
  curl_easy_getinfo(curl.handle, CURLINFO_RETRY_AFTER, &wait);
  response.retry_after = std::max<double>(0, wait);
  const char* location = nullptr;
  curl_easy_getinfo(curl.handle, CURLINFO_REDIRECT_URL, &location);
  response.location = location ? location : "";
  return response;
}

// ------------------------------------------------------------------------------------------------
// OpenAI's chat completions, as many servers speak them

// A member of an object, null where there is none; servers leave out and nullify at will.
const json& member(const json& object, const char* key) {
  static const json nothing;
  if (!object.is_object()) return nothing;
  const auto it = object.find(key);
  return it == object.end() ? nothing : *it;
}

std::string text_of(const json& value) { return value.is_string() ? value.get<std::string>() : ""; }

int64_t count_of(const json& value) { return value.is_number() ? value.get<int64_t>() : 0; }

// message.content: a string, or parts of which those of type "text" are the answer.
std::string content_of(const json& content) {
  if (!content.is_array()) return text_of(content);
  std::string text;
  for (const json& part : content) {
    const json& type = member(part, "type");
    if (part.is_string()) text += part.get<std::string>();
    if (type.is_null() || type == "text" || type == "output_text") {
      text += text_of(member(part, "text"));
    }
  }
  return text;
}

// The server's own words: {"error": {"message": ...}}, {"error": "..."}, {"message": ...} or text.
std::string message_of(const std::string& body) {
  const json document = parse_untrusted(body);
  const json& error = member(document, "error");
  for (const json* value : {&member(error, "message"), &error, &member(document, "message"),
                            &member(document, "detail")}) {
    if (value->is_string() && !value->get<std::string>().empty()) return value->get<std::string>();
  }
  return body;
}

// A URL without user, password and query, fit for a problem line.
std::string shown(const std::string& url) {
  std::string text = url.substr(0, url.find_first_of("?#"));
  const size_t scheme = text.find("://");
  const size_t begin = scheme == std::string::npos ? 0 : scheme + 3;
  const size_t host_end = std::min(text.find('/', begin), text.size());
  const size_t at = text.rfind('@', host_end);
  if (at != std::string::npos && at >= begin && at < host_end) text.erase(begin, at + 1 - begin);
  return text;
}

// The address that calls go to; people paste it with and without its last part.
std::string endpoint(std::string base) {
  const std::string path = "/chat/completions";
  while (base.ends_with("/")) base.pop_back();
  if (base.ends_with(path)) base.resize(base.size() - path.size());
  return base + path;
}

class OpenAi : public Provider {
 public:
  explicit OpenAi(const ProviderOptions& options)
      : options_(options),
        url_(endpoint(options.base_url.empty() ? "https://api.openai.com/v1" : options.base_url)),
        random_(std::random_device()()) {
    check(!options.model.empty(), "no model is named; add --model ID");
    const char* key = std::getenv(options.key_env.c_str());
    key_ = trim(key ? key : "");
    const bool plain =
        std::all_of(key_.begin(), key_.end(), [](char c) { return c > ' ' && c < 127; });
    check(plain, "the key in $" + options.key_env +
                     " has blanks or special characters inside; set the variable again");
    start_curl_once();
  }

  std::string name() const override { return "openai:" + options_.model; }

  Reply ask(const std::vector<Message>& conversation) override {
    const auto start = Clock::now();
    Reply reply;
    for (int attempt = 0;; ++attempt) {
      Outcome outcome = judge(post(url_, body(conversation), headers()));
      reply = std::move(outcome.reply);
      if (interrupt_requested() && !reply.problem.empty()) {
        reply = failed("interrupted while waiting for " + shown(url_), false);
      } else if (outcome.next == Next::kAgain) {
        continue;
      } else if (outcome.next == Next::kWait) {
        const double wait = outcome.retry_after > 0 ? outcome.retry_after : back_off(attempt);
        const double left = options_.retry_seconds - seconds_since(start);
        if (wait <= left && sleep_for(wait)) continue;
        reply.problem += note(attempt, outcome.retry_after);
      }
      break;
    }
    reply.seconds = seconds_since(start);
    return reply;
  }

 private:
  enum class Next { kDone, kWait, kAgain };

  struct Outcome {
    Reply reply;
    Next next = Next::kDone;
    double retry_after = 0;
  };

  std::string body(const std::vector<Message>& conversation) const {
    json messages = json::array();
    for (const Message& message : conversation) {
      messages.push_back({{"role", message.role}, {"content", message.text}});
    }
    const json request = {{"model", options_.model},
                          {"messages", std::move(messages)},
                          {limit_name_, options_.max_output_tokens}};
    return request.dump(-1, ' ', false, json::error_handler_t::replace);
  }

  std::vector<std::string> headers() const {
    // Without the empty Expect, libcurl waits a second for servers that don't know "100-continue".
    std::vector<std::string> lines = {"Content-Type: application/json", "Accept: application/json",
                                      "Expect:"};
    if (!key_.empty()) lines.push_back("Authorization: Bearer " + key_);
    return lines;
  }

  // Exponential with a quarter of jitter, so that several agents don't come back together.
  double back_off(int attempt) {
    const double wait = std::min(kLongestWait, kFirstWait * std::exp2(std::min(attempt, 10)));
    return wait * std::uniform_real_distribution<double>(0.75, 1.25)(random_);
  }

  // False when an interrupt came.
  static bool sleep_for(double seconds) {
    const auto start = Clock::now();
    while (seconds_since(start) < seconds) {
      if (interrupt_requested()) return false;
      const double left = std::clamp(seconds - seconds_since(start), 0.0, 0.1);
      std::this_thread::sleep_for(std::chrono::duration<double>(left));
    }
    return !interrupt_requested();
  }

  static std::string note(int attempt, double retry_after) {
    std::string text;
    if (attempt > 0) text = " (asked " + std::to_string(attempt + 1) + " times)";
    if (retry_after > 0) {
      text += "; it asks to wait " + std::to_string(std::llround(retry_after)) + " s";
    }
    return text;
  }

  // The server's words without the key, which some of them repeat in part.
  std::string quoted(const std::string& body) const {
    std::string text = one_line(message_of(body), body.size());
    const std::string secret = key_.substr(0, 8);
    for (size_t at = 0; !secret.empty() && (at = text.find(secret, at)) != std::string::npos;) {
      const size_t end = std::min(text.find_first_of(" \"',;", at), text.size());
      text.replace(at, end - at, "***");
    }
    return first_chars(text, kMaxMessage);
  }

  Outcome judge(const Response& response) {
    if (response.code != CURLE_OK) return judge_transport(response);
    if (response.status != 200) return judge_status(response.status, response);
    const json document = parse_untrusted(response.body);
    const json& error = member(document, "error");
    if (!error.is_null()) {
      // Routers answer 200 and put the status of the server behind them into the error.
      const json& code = member(error, "code");
      const bool is_status = code.is_number_integer() && code >= 400 && code < 600;
      return judge_status(is_status ? code.get<long>() : 500, response);
    }
    return read(document);
  }

  Outcome judge_transport(const Response& response) const {
    const std::string url = shown(url_), problem = one_line(response.curl_problem, kMaxMessage);
    switch (response.code) {
      case CURLE_COULDNT_RESOLVE_HOST:
      case CURLE_COULDNT_RESOLVE_PROXY:
      case CURLE_URL_MALFORMAT:
      case CURLE_UNSUPPORTED_PROTOCOL:
      case CURLE_PEER_FAILED_VERIFICATION:
      case CURLE_SSL_CACERT_BADFILE:
        return {failed("can't reach " + url + ": " + problem + "; check --base-url and the network",
                       true)};
      default:
        return {failed("can't reach " + url + ": " + problem, false), Next::kWait};
    }
  }

  // What an answer other than a good 200 means.
  Outcome judge_status(long status, const Response& response) {
    const std::string url = shown(url_), said = quoted(response.body);
    const std::string answered = url + " answered " + std::to_string(status) + ": " + said;
    const bool has_new_name = said.find("max_completion_tokens") != std::string::npos;
    if (status == 400 && has_new_name && limit_name_ == "max_tokens") {
      limit_name_ = "max_completion_tokens";
      return {{}, Next::kAgain};
    }
    // A used-up quota comes as 429, but no wait brings it back.
    const bool broke = response.body.find("insufficient_quota") != std::string::npos;
    if (status == 402 || broke) {
      return {failed(answered + "; check the account's credit", true)};
    }
    if (status == 401) return {failed(about_key(url), true)};
    if (status == 403) return {failed(answered + "; " + check_key(), true)};
    if (status == 404) {
      return {failed(answered + "; check --model " + options_.model + " and --base-url", true)};
    }
    if (status == 408 || status == 409 || status == 429 || status >= 500) {
      return {failed(answered, false), Next::kWait, response.retry_after};
    }
    if (status < 400) {
      const std::string where = response.location.empty() ? "" : " to " + shown(response.location);
      return {failed(url + " answered " + std::to_string(status) + where +
                         ", which is not followed; check --base-url",
                     true)};
    }
    return {failed(answered + "; check --model " + options_.model, true)};
  }

  // Some servers repeat a refused key, so their words are left out.
  std::string about_key(const std::string& url) const {
    if (key_.empty()) return url + " wants a key (401); export " + options_.key_env + "=...";
    return url + " refuses the key (401); " + check_key();
  }

  std::string check_key() const { return "check the key in $" + options_.key_env; }

  Outcome read(const json& document) const {
    const json& choices = member(document, "choices");
    static const json kNone;
    const json& choice = choices.is_array() && !choices.empty() ? choices[0] : kNone;
    if (!member(choice, "message").is_object()) {
      return {failed(shown(url_) + " sent something that is no chat completion; check --base-url",
                     false),
              Next::kWait};
    }
    Reply reply;
    reply.text = content_of(member(member(choice, "message"), "content"));
    reply.truncated = member(choice, "finish_reason") == "length";
    const json& usage = member(document, "usage");
    reply.tokens_in = count_of(member(usage, "prompt_tokens"));
    reply.tokens_out = count_of(member(usage, "completion_tokens"));
    return {std::move(reply)};
  }

  const ProviderOptions options_;
  const std::string url_;
  std::string key_;
  std::string limit_name_ = "max_tokens";  // newer models refuse this name
  std::mt19937 random_;
};

// ------------------------------------------------------------------------------------------------
// Any program: the conversation on stdin, the reply on stdout

// A file for the program's stderr, which must not mix with its reply.
class TemporaryFile {
 public:
  TemporaryFile() {
    const char* folder = std::getenv("TMPDIR");
    path_ = std::string(folder && *folder ? folder : "/tmp") + "/autoresearch-XXXXXX";
    const int fd = mkstemp(path_.data());
    check(fd >= 0, "can't create a file like " + path_ + "; set TMPDIR to a writable folder");
    close(fd);
  }
  ~TemporaryFile() { unlink(path_.c_str()); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::string last_line(const std::string& text) {
  const std::vector<std::string> lines = split_lines(trim(text));
  return lines.empty() ? "" : one_line(lines.back(), kMaxMessage);
}

class CommandProvider : public Provider {
 public:
  explicit CommandProvider(const ProviderOptions& options) : command_(options.command) {
    check(!trim(command_).empty(), "no command is named; add --command CMD");
  }

  std::string name() const override { return "command:" + command_; }

  // The person's own program: it gets the person's environment, keys included.
  Reply ask(const std::vector<Message>& conversation) override try {
    const TemporaryFile errors;
    Command command;
    command.argv = {"/bin/sh", "-c", "exec 2>\"$0\"\n" + command_, errors.path()};
    for (char** variable = environ; *variable; ++variable) command.env.push_back(*variable);
    command.input = flattened(conversation);
    command.limit = kCallSeconds;
    const Exit exit = run(command);
    Reply reply = judge(exit, read_file(errors.path()));
    reply.seconds = exit.seconds;
    return reply;
  } catch (const Error& error) {
    return failed(error.what(), false);
  }

 private:
  // One text; a single turn needs no headings beyond the blank line between system and user.
  static std::string flattened(const std::vector<Message>& conversation) {
    std::string text;
    for (const Message& message : conversation) {
      if (message.role == "assistant") text += "# Your previous reply\n\n";
      text += message.text;
      text += text.ends_with("\n") ? "\n" : "\n\n";
    }
    return text;
  }

  Reply judge(const Exit& exit, const std::string& errors) const {
    if (exit.interrupted) return failed("interrupted while waiting for " + name(), false);
    const std::string said = last_line(last_line(errors).empty() ? exit.output : errors);
    if (exit.timed_out) {
      return failed("the command '" + command_ + "' gave no reply within " +
                        std::to_string(kCallSeconds) + " s",
                    false);
    }
    if (exit.code != 0) {
      // 126 and 127: the shell can't execute it, which no second try will change.
      return failed("the command '" + command_ + "' exited with " + std::to_string(exit.code) +
                        ": " + (said.empty() ? "it printed nothing" : said),
                    exit.code == 126 || exit.code == 127);
    }
    Reply reply;
    reply.text = valid_utf8(exit.output);
    return reply;
  }

  const std::string command_;
};

}  // namespace

std::unique_ptr<Provider> make_provider(const ProviderOptions& options) {
  if (options.kind == "openai") return std::make_unique<OpenAi>(options);
  if (options.kind == "command") return std::make_unique<CommandProvider>(options);
  throw Error("unknown provider '" + options.kind + "'; use openai or command");
}

}  // namespace autoresearch
