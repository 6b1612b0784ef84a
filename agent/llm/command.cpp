#include "agent/llm/command.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "agent/llm/secret.h"
#include "agent/money.h"
#include "agent/text.h"
#include "common/error.h"
#include "common/files.h"
#include "common/process.h"

extern char** environ;

namespace autoresearch {
namespace {

constexpr long kCallSeconds = 900;   // assistants that use tools of their own take their time
constexpr size_t kMaxMessage = 240;  // characters of the program's words in a problem line

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

bool names_a_key(const std::string& variable) {
  const auto ends = [&](const char* end) { return variable.ends_with(end); };
  return ends("_KEY") || ends("_TOKEN") || ends("_SECRET") || ends("_PASSWORD");
}

// The program may print the keys that it was given. `key_env`: one more variable that has one.
std::string without_keys(std::string text, const std::string& key_env) {
  for (char** variable = environ; *variable; ++variable) {
    const std::string entry(*variable);
    const size_t equals = std::min(entry.find('='), entry.size() - 1);
    const std::string name = entry.substr(0, equals);
    if (name == key_env || names_a_key(name))
      text = Secret::of(entry.substr(equals + 1)).removed_from(std::move(text));
  }
  return text;
}

class CommandProvider : public Provider {
 public:
  explicit CommandProvider(const ProviderOptions& options)
      : command_(options.command), key_env_(options.key_env), ledger_(options.ledger) {
    check(!trim(command_).empty(), "no command is named; add --command CMD");
  }

  std::string name() const override { return "command:" + command_; }

  Reply ask(const std::vector<Message>& conversation) override {
    const std::string prompt = flattened(conversation);
    std::optional<int64_t> id;
    if (ledger_ && !(id = ledger_->open(name(), "command", prompt.size(), 0))) {
      Reply reply = failed_reply("--max-usd can't count what a command spends", true);
      reply.used_up = true;
      reply.provider = name();
      return reply;
    }
    Reply reply = answer_to(prompt);
    reply.provider = name();
    if (id) ledger_->close(*id, reply, Ledger::Billed::kReported);
    return reply;
  }

 private:
  // The person's own program: it gets the person's environment, keys included.
  Reply answer_to(const std::string& prompt) const try {
    const TemporaryFile errors;
    Command command;
    command.argv = {"/bin/sh", "-c", "exec 2>\"$0\"\n" + command_, errors.path()};
    for (char** variable = environ; *variable; ++variable) command.env.push_back(*variable);
    command.input = prompt;
    command.limit = kCallSeconds;
    Exit exit = run(command);
    exit.output = without_keys(std::move(exit.output), key_env_);
    Reply reply = judge(exit, without_keys(read_file(errors.path()), key_env_));
    reply.seconds = exit.seconds;
    return reply;
  } catch (const Error& error) {
    return failed_reply(error.what(), false);
  }

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
    if (exit.interrupted) return failed_reply("interrupted while waiting for " + name(), false);
    const std::string said = last_line(last_line(errors).empty() ? exit.output : errors);
    if (exit.timed_out) {
      return failed_reply("the command '" + command_ + "' gave no reply within " +
                              std::to_string(kCallSeconds) + " s",
                          false);
    }
    if (exit.code != 0) {
      // 126 and 127: the shell can't execute it, which no second try will change.
      return failed_reply("the command '" + command_ + "' exited with " +
                              std::to_string(exit.code) + ": " +
                              (said.empty() ? "it printed nothing" : said),
                          exit.code == 126 || exit.code == 127);
    }
    if (trim(exit.output).empty()) {
      return failed_reply("the command '" + command_ + "' printed nothing", false);
    }
    Reply reply;
    reply.text = valid_utf8(exit.output);
    return reply;
  }

  const std::string command_, key_env_;
  Ledger* const ledger_;
};

}  // namespace

std::unique_ptr<Provider> command_provider(const ProviderOptions& options) {
  return std::make_unique<CommandProvider>(options);
}

}  // namespace autoresearch
