// prepare: makes the task that everything else only reads.
//
//   build/prepare --source demo            headers of this machine, small; for a first look
//   build/prepare --source PATH...         files and folders of text, source code, .jsonl
//   build/prepare info|encode|decode       what a task holds; text to ids and back
//   build/prepare copy                     the same task with another time budget
//
// A corpus becomes a task folder (task/task.h) in this order: index the documents, set some
// aside, train the tokenizer on the others, pack val and test for ever, write the training shards.
// Nothing in it depends on the clock, the number of threads or the order of files.

#include <signal.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <set>

#include "common/error.h"
#include "common/failure.h"
#include "common/files.h"
#include "common/log.h"
#include "common/nvidia.h"
#include "common/process.h"
#include "common/text.h"
#include "common/version.h"
#include "prepare/copy_task.h"
#include "prepare/forecast.h"
#include "prepare/make_from_files.h"
#include "prepare/make_from_hub.h"
#include "prepare/request.h"
#include "prepare/say.h"
#include "prepare/task_summary.h"
#include "prepare/token_stream.h"
#include "prepare/workplace.h"
#include "task/task.h"
#include "task/tokenizer.h"

namespace autoresearch {
namespace {

// ------------------------------------------------------------------------------------------------
// Making a task

void catch_interrupts() {
  struct sigaction action = {};
  action.sa_handler = [](int) { request_interrupt(); };
  action.sa_flags = static_cast<int>(SA_RESETHAND);  // a second Ctrl-C ends the program at once
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaction(signal, &action, nullptr);
  ::signal(SIGXFSZ, SIG_IGN);  // a write beyond ulimit -f is an error like another
}

void print_next(const std::string& task) {
  say("Done. Next: build/train --task {0}, or build/agent run --tag NAME --task {0}\n", task);
}

std::string what_it_takes(const TaskInfo& info) {
  return forecast_in_words(
      info, has_nvidia_device() ? std::nullopt : std::optional<double>(trial_speed()));
}

// Says so if the task is there.
bool nothing_to_do(const fs::path& dir, const TaskInfo& wanted, bool force) {
  if (!already_prepared(dir, wanted, force)) return false;
  const bool piped = wanted.source.starts_with('-');  // paths are absolute, and sort behind it
  say("Task {} is already prepared in {}{}\n", wanted.name, dir.native(),
      piped ? " (what the pipe holds was not looked at; --force makes it anew)" : "");
  print_next(wanted.name);
  return true;
}

void make_task(Request request, const std::set<std::string>& given) {
  catch_interrupts();
  fill_in(request, given, task_there(request));
  check_options(request);
  const TaskInfo wanted = wanted_task(request);
  const fs::path dir = data_dir() / wanted.name;
  if (nothing_to_do(dir, wanted, request.force)) return;
  const TaskLock lock(dir);
  if (nothing_to_do(dir, wanted, request.force)) return;  // another process was faster
  check(!request.source.empty(), "task " + wanted.name + " was made of " + wanted.source +
                                     "; to make it anew, give that once more with --source");
  if (!given.contains("--source") && request.from_hub())
    say("No --source is given: this is {}, {} files to train on and one to score by, from the hub\n"
        "Others are tinystories, demo, and files and folders: build/prepare --help\n",
        wanted.source, wanted.shards);

  // Whatever goes wrong, the workplace is removed, and an older task stays as it is.
  Workplace workplace(dir);
  const TaskInfo made = request.from_hub() ? make_from_hub(request, workplace.path(), wanted)
                                           : make_from_files(request, workplace.path(), wanted);
  write_file(workplace.path() / "task.json", to_json(made));
  workplace.publish();

  say("{}{}Task {} is in {}\n", summary_of_splits(made), what_it_takes(made), made.name,
      dir.native());
  print_next(made.name);
}

// ------------------------------------------------------------------------------------------------
// Looking at a task

fs::path find_task(const std::string& name) { return task_dir(name.empty() ? only_task() : name); }

Tokenizer load_tokenizer(const fs::path& dir) {
  return Tokenizer::load(dir / "tokenizer.tiktoken");
}

void info_command(const std::string& task) {
  const fs::path dir = find_task(task);
  const TaskInfo info = load_task(dir);
  say("task {} in {}\nsource {}\nvocabulary {}, seq_len {}\n\n{}{}{}", info.name, dir.native(),
      info.source, info.vocab_size, info.seq_len, summary_of_splits(info), what_it_takes(info),
      summary_of_samples(dir, info, load_tokenizer(dir)));
}

// ------------------------------------------------------------------------------------------------
// The command line

struct CommandLine {
  Request make;
  std::string task;  // of the other commands
  std::string copys_name;
  double copys_budget = 0;
  bool binary = false;

  CLI::App app{"Makes the task that training reads."};

  CommandLine();

 private:
  CLI::App* command(const std::string& name, const std::string& help, std::string& task_name);
  void add_make();
  void add_look();
};

void use_data_dir(const std::string& dir) { setenv("AUTORESEARCH_DATA", dir.c_str(), 1); }

CLI::App* CommandLine::command(const std::string& name, const std::string& help,
                               std::string& task_name) {
  CLI::App* sub = app.add_subcommand(name, help);
  sub->add_option("--task", task_name, "name of the task (default: the only one)");
  sub->add_option_function<std::string>("--data", use_data_dir, "folder for all data");
  return sub;
}

void CommandLine::add_make() {
  app.add_option("--source", make.source,
                 "climbmix or tinystories from the hub, demo, or files and folders; - is "
                 "stdin, -.jsonl is stdin with JSON lines")
      ->expected(1, 1 << 20)
      ->capture_default_str();
  app.add_option("--task", make.task, "name of the task (default: the source's)");
  app.add_option("--shards", make.shards,
                 "training files of climbmix or tinystories; -1: all (default: 10, or all if there "
                 "are fewer)");
  app.add_option("--base-url", make.base_url,
                 "where the hub's files are (default: below $HF_ENDPOINT)");
  app.add_option("--downloads", make.downloads, "files to download at a time")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  app.add_option("--column", make.read.column,
                 "in parquet and JSON lines, where the text is, such as raw.text, paragraphs[] or "
                 "messages[].content")
      ->capture_default_str();
  app.add_option("--doc-separator", make.read.doc_separator,
                 "in plain text, what stands between documents, such as $'\\n\\n'");
  app.add_option("--dedup", make.dedup,
                 "exact: leave duplicates out; near: also keep what resembles a held-out document "
                 "out of train")
      ->check(CLI::IsMember({"exact", "near"}))
      ->capture_default_str();
  for (CLI::Option* option :
       {app.add_option("--vocab", make.vocab, "tokens of the vocabulary"),
        app.add_option("--seq-len", make.seq_len, "tokens of a row"),
        app.add_option("--time-budget", make.time_budget, "seconds of training"),
        app.add_option("--eval-tokens", make.eval_tokens, "tokens of val, and as many of test")})
    option->capture_default_str();
  app.add_option("--workers", make.workers, "threads, at most 32 (default: one a core)");
  app.add_option_function<std::string>("--data", use_data_dir, "folder for all data");
  app.add_flag("--force", make.force,
               "make the task anew if it exists; what no flag gives stays as it was");
  app.callback([this] {
    if (!app.get_subcommands().empty()) return;
    std::set<std::string> given;
    for (const CLI::Option* option : app.get_options())
      if (!option->empty()) given.insert(option->get_name());
    make_task(make, given);
  });
}

void CommandLine::add_look() {
  CLI::App* info = command("info", "Prints sizes, longest tokens and a sample of a task", task);
  info->callback([this] { info_command(task); });
  CLI::App* copy =
      command("copy", "Makes a task of another time budget, with the same files", task);
  copy->add_option("--as", copys_name, "its name")->required();
  copy->add_option("--time-budget", copys_budget, "seconds of training")->required();
  copy->callback([this] {
    copy_task(find_task(task), copys_name, copys_budget);
    print_next(copys_name);
  });
  CLI::App* encode = command("encode", "Text on stdin to token ids on stdout (no BOS)", task);
  encode->add_flag("--binary", binary, "ids as little-endian uint16");
  encode->callback(
      [this] { encode_stream(load_tokenizer(find_task(task)), stdin, stdout, binary); });
  CLI::App* decode = command("decode", "Token ids on stdin to text on stdout", task);
  decode->add_flag("--binary", binary, "ids as little-endian uint16");
  decode->callback(
      [this] { decode_stream(load_tokenizer(find_task(task)), stdin, stdout, binary); });
}

CommandLine::CommandLine() {
  app.require_subcommand(0, 1);
  app.set_version_flag("--version", [] { return version_of("prepare"); });
  add_make();
  add_look();
}

int run_program(int argc, char** argv) {
  CommandLine line;
  try {
    line.app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() != 0) {
      throw Error(std::string(e.what()) + "; build/prepare --help lists what there is", kUsage);
    }
    line.app.exit(e);  // prints what --help asked for
  }
  const bool flushed = std::fflush(stdout) == 0;
  check(flushed && !std::ferror(stdout),
        std::string("can't write the output: ") + std::strerror(errno != 0 ? errno : EIO));
  return kDone;
}

// One line, whatever the names of files hold.
int print_error(const std::string& what, int code) {
  std::fprintf(stderr, "prepare: error: %s\n", one_line(what, what.size()).c_str());
  return code;
}

}  // namespace
}  // namespace autoresearch

int main(int argc, char** argv) try {
  autoresearch::set_up_log("prepare");
  return autoresearch::run_program(argc, argv);
} catch (const autoresearch::Error& e) {
  return autoresearch::print_error(e.what(), e.code);
} catch (const std::bad_alloc&) {
  return autoresearch::print_error("out of memory; give --workers 1, or end other programs",
                                   autoresearch::kError);
} catch (const std::exception& e) {
  return autoresearch::print_error(autoresearch::failure_in_words(e), autoresearch::kError);
}
