// Where drafts come from: conversations with models and the builtin proposer, one about each
// experiment, kept in its folder so that an interruption costs no reply that was paid for.
#pragma once

#include <map>
#include <memory>
#include <mutex>

#include "agent/llm/models.h"
#include "agent/loop/workers.h"
#include "agent/propose/dialogue.h"
#include "common/run_folder.h"

namespace autoresearch {

// A line about the first prompt's size. Throws Error if a model's context has no room for it.
std::string check_prompt(const Prompt& prompt, int64_t context_tokens);

class Proposer {
 public:
  struct Setup {
    fs::path checkout;  // for program.md
    RunFolder run;
    fs::path headers;  // a folder with harness/harness.h and kernels/kernels.h
    std::string task;  // what a model is told of it: agent/propose/task_text.h
    bool cuda = false;
    int64_t memory_bytes = 0;  // Slot::memory_bytes
    int64_t context_tokens = kContextTokens;
    // The edited file at a commit.
    std::function<std::string(const std::string& commit)> source_at;
    // How many experiments may still be made; nothing: no limit was given.
    std::function<std::optional<int64_t>(const RunState&)> left;
  };

  // `models` null: the builtin proposer alone.
  Proposer(Setup setup, Models* models);

  // One conversation. turn() may run on a thread of its own, one at a time.
  struct Talk;

  // begin and reopen read `state` and files, and are quick; reopen gives null if the folder holds
  // no conversation that can go on. begin goes on with a reply there that is not on record: the
  // agent was killed in the moment between. go_on tells the author what was wrong, and is false if
  // no reply is allowed.
  std::shared_ptr<Talk> begin(const job::Propose& job, const RunState& state);
  std::shared_ptr<Talk> reopen(int64_t n, const RunState& state);
  bool go_on(const std::shared_ptr<Talk>& talk, const job::GoOn& job);

  // Waits for the next reply and applies it to the champion. Writes prompt, reply and conversation
  // into the experiment's folder.
  done::Proposed turn(Talk& talk);

  // The prompt that a first conversation begins with, to see before the night if it fits.
  Prompt first_prompt_of(const RunState& state, const std::string& source);

  // program.md as it is; as it was if it can't be read, as while an editor has it aside. Any
  // thread.
  std::string program();

 private:
  std::string edits_named_in(const std::string& text) const;
  PromptInputs briefing(const RunState& state, const std::string& source);
  std::shared_ptr<Talk> fresh(const job::Propose& job, const std::string& base,
                              const RunState& state);
  Reply ask(Talk& talk, done::Proposed& done);
  void keep(const Talk& talk, const std::string& reply);
  // Gives a reply of an earlier agent its file, if that was ended before it had one.
  void keep_late(int64_t n, const std::string& reply) const;

  const Setup setup_;
  Models* models_;
  std::mutex mutex_;  // of program_
  std::string program_;
  std::string said_left_out_;
};

}  // namespace autoresearch
