// Asking a language model. One small interface; keys come from the environment only, and are never
// written, logged or passed on an argument list.
#pragma once

#include <memory>
#include <string>
#include <vector>

namespace autoresearch {

struct Message {
  std::string role;  // "system", "user" or "assistant"
  std::string text;
  bool cache_after = false;  // a prefix that stays the same between calls ends here
};

struct Reply {
  std::string text;        // empty where the call failed
  bool truncated = false;  // cut by the length limit
  std::string problem;     // one line with what to do, when the call failed; empty: it worked
  bool fatal = false;      // asking again can't help (wrong key, unknown model, unknown host name)
  bool too_long = false;   // the endpoint says that the conversation exceeds the model's context
  int64_t tokens_in = 0, tokens_out = 0;
  double seconds = 0;
};

class Provider {
 public:
  virtual ~Provider() = default;
  virtual std::string name() const = 0;  // "openai:gpt-5", "command:./ask.sh", for the journal
  // One call, retried inside on 408, 409, 429, 5xx and dropped connections (Retry-After is obeyed)
  // for at most a few minutes. Never throws for what the other side does. Returns early when
  // interrupt_requested().
  virtual Reply ask(const std::vector<Message>& conversation) = 0;
};

struct ProviderOptions {
  std::string kind;      // "openai" or "command"
  std::string model;     // openai
  std::string base_url;  // openai; default https://api.openai.com/v1
  std::string key_env = "OPENAI_API_KEY";
  std::string command;  // command: run by /bin/sh -c, prompt on stdin, reply on stdout
  int64_t max_output_tokens = 12000;
  double retry_seconds = 300;  // how long one ask() may go on retrying
};

// Throws Error for options that can't work (no model, no command).
std::unique_ptr<Provider> make_provider(const ProviderOptions& options);

}  // namespace autoresearch
