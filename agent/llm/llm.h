// Asking a language model. One small interface; what speaks to an endpoint, a program or a record
// stands behind it in agent/llm/. Keys come from the environment only, and are never written,
// logged, sent to another host or passed on an argument list.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace autoresearch {

class Ledger;

// How the names of providers begin that give recorded replies.
constexpr const char* kReplay = "replay:";

struct Message {
  std::string role;  // "system", "user" or "assistant"
  std::string text;
  bool cache_after = false;  // a prefix that later conversations share ends here
};

// What a call took.
struct Tokens {
  int64_t tokens_in = 0;  // all of the prompt, the cached part included
  int64_t tokens_cached = 0, tokens_cache_written = 0;
  int64_t tokens_out = 0;  // reasoning included
  int64_t tokens_reasoning = 0;
};

struct Reply : Tokens {
  std::string text;        // empty where the call failed
  bool truncated = false;  // cut by the length limit, also when asked again with more room
  std::string problem;     // one line with what to do, when the call failed; empty: it worked
  std::string note;        // one line about what was odd and did no harm; empty: nothing was
  bool is_there = false;   // it failed, but a model has answered: it only reasoned, say
  bool fatal = false;      // asking this one again at once can't help: a wrong key, an unknown
                           // model, no credit
  bool too_long = false;   // the conversation does not fit: shorten it and ask again
  bool used_up = false;    // never again in this run: --max-usd might be passed, or a record ended
  double wait = 0;         // seconds that the other side asks to be left alone, 0: none named
  std::string provider;    // who answered or failed, as its name() says
  std::optional<double> cost;  // USD, as the endpoint itself states it
  double seconds = 0;
};

class Provider {
 public:
  virtual ~Provider() = default;
  virtual std::string name() const = 0;  // "openai:gpt-5", "command:./ask.sh", for the journal
  // One reply to the conversation; neighbours of one role are joined where a protocol wants turns
  // to alternate. What may pass (408, 409, 429, 5xx, a dropped, stalled or malformed stream) is
  // tried again inside, with waits of at most retry_seconds in all, in which Retry-After is obeyed.
  // Never throws for what the other side does. Returns early when interrupt_requested().
  virtual Reply ask(const std::vector<Message>& conversation) = 0;
};

struct ProviderOptions {
  std::string kind = {};      // openai, openai-responses, anthropic, ollama, command or replay
  std::string model = {};     // the endpoint's name for it; replay: the tag of an earlier run, or
                              // the path of its folder
  std::string base_url = {};  // default: the provider's own public address
  std::string key_env = {};   // default: OPENAI_API_KEY or ANTHROPIC_API_KEY, at the provider's own
                              // address only; command: also kept out of the program's words
  std::string command = {};   // command: run by /bin/sh -c, prompt on stdin, reply on stdout
  int64_t max_output_tokens = 12000;  // room of a reply; one that is cut is asked for again with 2x
  int64_t context_tokens = 0;         // ollama's num_ctx; 0: as large as the prompt needs
  bool stream = true;
  std::optional<double> temperature = {};  // not sent by default: reasoning models refuse it
  std::string reasoning_effort = {};       // low, medium or high; not sent by default
  double retry_seconds = 30;               // that one ask() may spend waiting between its tries
  double first_retry_seconds = 30;         // the first one
  double first_wait = 0.5;  // before the second try; doubles with each, up to a minute
  // Seconds without a byte from the other side, from a command without an end; 0: what suits the
  // address, see patience_for() in agent/llm/endpoint.h. Silence is not asked again at once.
  double patience = 0;
  // NAME=VARIABLE: a header for the endpoint's own host, with the value of that environment
  // variable.
  std::vector<std::string> headers = {};
  Ledger* ledger = nullptr;     // agent/llm/money.h: told of every request before and after it
  std::string price_name = {};  // what its calls are billed under; default: the model
  // Replies on record in this run, by the name of who gave them; replay goes on after its own.
  std::map<std::string, int64_t> given = {};
};

// Throws Error for options that can't work (no model, no command, no such run).
std::unique_ptr<Provider> make_provider(const ProviderOptions& options);

// Its two kinds that are no endpoint. Any program as a model: the conversation on stdin, the reply
// on stdout; command-line assistants (docs/models.md says with which flags), or a script of the
// user's own. Each call runs in an empty folder of its own: an assistant that obeys a project's
// files or edits them finds none. Nobody knows what a call costs: it has no price, or that of
// "command", which can only be 0.
std::unique_ptr<Provider> command_provider(const ProviderOptions& options);

// The replies of an earlier run, one after the other. As many as `options.given` counts under the
// provider's name are passed over: a run that goes on, goes on with the next one. Throws Error if
// the earlier run has no replies.
std::unique_ptr<Provider> recorded_provider(const ProviderOptions& options);

// A reply that is only a problem.
Reply failed_reply(const std::string& problem, bool fatal);

// Whether a text holds an edit that can be read: an idea and closed blocks.
bool is_whole_edit(const std::string& text);

// The reply in what a model printed: all but its thoughts (agent/edit/thoughts.h), or these if only
// they hold an edit.
std::string reply_in(const std::string& printed);

}  // namespace autoresearch
