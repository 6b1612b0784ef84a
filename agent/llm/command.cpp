#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <ctime>
#include <system_error>

#include "agent/llm/complaint.h"
#include "agent/llm/llm.h"
#include "agent/llm/money.h"
#include "agent/llm/secret.h"
#include "common/error.h"
#include "common/files.h"
#include "common/process.h"
#include "common/progress.h"
#include "common/text.h"

extern char** environ;

namespace autoresearch {
namespace {

constexpr double kCallSeconds = 900;     // assistants that use tools of their own take their time
constexpr size_t kMaxMessage = 240;      // characters of the program's words in a problem line
constexpr size_t kMaxReply = 256 << 10;  // bytes at the end of all that it prints

// What a call leaves behind goes with it.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    const char* folder = std::getenv("TMPDIR");
    std::string name = std::string(folder && *folder ? folder : "/tmp") + "/autoresearch-XXXXXX";
    check(mkdtemp(name.data()) != nullptr,
          "can't create a folder like " + name + "; set TMPDIR to a writable folder");
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

// The command runs in another folder, so each word with a slash that names a file by its relative
// path gets the absolute one: "./ask.sh", "python3 tools/ask.py". A bare name stays what it is: it
// may be the name of a program or of what the assistant is told to write. So does one whose
// absolute path the shell would take apart.
std::string with_absolute_paths(const std::string& command) {
  constexpr std::string_view kBetween = " \t\n'\"`;|&()<>=";
  constexpr std::string_view kSpecial = " \t\n'\"`;|&()<>$*?[]{}\\~#!";
  std::string out;
  for (size_t begin = 0; begin < command.size();) {
    const size_t end = std::min(command.find_first_of(kBetween, begin), command.size());
    const fs::path word = command.substr(begin, end - begin);
    std::error_code ignored;
    const bool relative = word.has_parent_path() && word.is_relative() && fs::exists(word, ignored);
    const std::string path = relative ? fs::absolute(word).lexically_normal().string() : "";
    const bool plain = relative && path.find_first_of(kSpecial) == std::string::npos;
    out += plain ? path : word.string();
    if (end < command.size()) out += command[end];
    begin = end + 1;
  }
  return out;
}

// The user's own environment, keys included, but plain text for a terminal, and no trace of the
// folder and the repository that the agent works in.
std::vector<std::string> environment_in(const fs::path& folder) {
  constexpr std::array<std::string_view, 9> kReplaced = {
      "PWD=",     "OLDPWD=",        "TERM=",           "NO_COLOR=",      "FORCE_COLOR=",
      "GIT_DIR=", "GIT_WORK_TREE=", "GIT_INDEX_FILE=", "CLICOLOR_FORCE="};
  std::vector<std::string> env = {"PWD=" + folder.string(), "TERM=dumb", "NO_COLOR=1"};
  for (char** variable = environ; *variable; ++variable) {
    const std::string_view entry = *variable;
    if (std::none_of(kReplaced.begin(), kReplaced.end(),
                     [&](std::string_view name) { return entry.starts_with(name); }))
      env.emplace_back(entry);
  }
  return env;
}

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
      : command_(options.command),
        key_env_(options.key_env),
        limit_(options.patience > 0 ? options.patience : kCallSeconds),
        ledger_(options.ledger) {
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
  Reply answer_to(const std::string& prompt) const try {
    const TemporaryFolder folder;
    Command command;
    command.argv = {"/bin/sh", "-c", with_absolute_paths(command_)};
    command.apart = true;
    command.env = environment_in(folder.path());
    command.cwd = folder.path();
    command.input = prompt;
    command.limit = limit_;
    Exit exit = run(command);
    exit.output = without_keys(std::move(exit.output), key_env_);
    Reply reply = judge(exit, without_keys(std::move(exit.errors), key_env_));
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
    std::string text = exit.output;
    if (text.size() > kMaxReply) text.erase(0, text.size() - kMaxReply);
    Reply reply;
    reply.text = reply_in(text);
    const bool answered = !trim(reply.text).empty();
    const bool failed = exit.timed_out || exit.code != 0;
    // What went wrong around a whole edit does not matter to it.
    if (failed && is_whole_edit(reply.text)) {
      reply.note = exit.timed_out
                       ? "it gave a whole edit and did not end"
                       : fmt::format("it gave a whole edit and exited with {}", exit.code);
      return reply;
    }
    const bool by_errors = !trim(errors).empty() && (failed || !answered);
    const std::string said = last_line(last_line(errors).empty() ? exit.output : errors);
    auto complaint = complaint_in(by_errors ? errors : reply.text, std::time(nullptr));
    // Below a banner, a prompt that was echoed or progress, the last line is what counts.
    if (!complaint && by_errors) complaint = complaint_in(said, std::time(nullptr));
    if (!failed && !complaint && answered) return reply;
    // 126 and 127: the shell can't execute it, which no second try will change.
    const bool lasting = exit.code == 126 || exit.code == 127 || (complaint && complaint->lasting);
    reply = failed_reply("the command '" + command_ + "' " + failure(exit, said), lasting);
    reply.too_long = complaint && complaint->too_long;
    reply.wait = complaint ? complaint->wait : 0;
    return reply;
  }

  std::string failure(const Exit& exit, const std::string& said) const {
    if (exit.timed_out)
      return "gave no reply within " + human_seconds(limit_) +
             (said.empty() ? "" : "; it printed: " + said);
    if (exit.code != 0)
      return fmt::format(
          "exited with {}: {}{}", exit.code, said.empty() ? "it printed nothing" : said,
          !has_any(said, {"No such file"})
              ? ""
              : "; it runs in an empty folder, so name its files by their full paths");
    return said.empty() ? "printed nothing" : "gave no reply: " + said;
  }

  const std::string command_, key_env_;
  const double limit_;  // seconds of one call
  Ledger* const ledger_;
};

}  // namespace

std::unique_ptr<Provider> command_provider(const ProviderOptions& options) {
  return std::make_unique<CommandProvider>(options);
}

}  // namespace autoresearch
