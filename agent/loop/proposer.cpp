#include "agent/loop/proposer.h"

#include <fmt/format.h>

#include <utility>

#include "agent/edit/edit.h"
#include "agent/propose/briefing.h"
#include "agent/record/earlier_result.h"
#include "common/error.h"
#include "common/json.h"
#include "common/log.h"
#include "common/process.h"
#include "common/text.h"

namespace autoresearch {

std::string check_prompt(const Prompt& prompt, int64_t context_tokens) {
  const int64_t most = prompt_tokens(context_tokens);
  check(
      prompt.tokens <= most,
      fmt::format(
          "the prompt takes about {} tokens at its shortest, and a context of {} leaves it {}; "
          "use a model with more context and --context-tokens {}",
          prompt.tokens, context_tokens, most, prompt.tokens * kContextTokens / kPromptTokens + 1));
  return fmt::format("prompt      about {} tokens of at most {}{}", prompt.tokens, most,
                     prompt.left_out.empty() ? "" : ": " + prompt.left_out);
}

struct Proposer::Talk {
  int64_t n = 0;
  std::string base, source;  // the champion's commit and file
  Dialogue dialogue;
  int64_t on_record = 0;  // replies that the journal knew when this was taken up again
};

Proposer::Proposer(Setup setup, Models* models) : setup_(std::move(setup)), models_(models) {}

std::string Proposer::program() {
  const std::lock_guard lock(mutex_);
  try {
    program_ = read_file(setup_.checkout / "program.md");
  } catch (const Error&) {
    if (program_.empty()) throw;
  }
  return program_;
}

// The edits of the experiments that a text names, from their folders.
std::string Proposer::edits_named_in(const std::string& text) const {
  constexpr size_t kMost = 4000;  // bytes of one
  std::string edits;
  for (const int64_t n : named_in(text)) {
    const fs::path diff = setup_.run.experiment(n).diff();
    std::error_code ignored;
    if (!fs::exists(diff, ignored)) continue;
    std::string shown = plain_text(read_file(diff));
    if (shown.size() > kMost) shown = shown.substr(0, shown.rfind('\n', kMost)) + "\n[cut here]\n";
    edits += fmt::format("#{}, against the best of its time:\n\n{}\n", n, fenced(shown, "diff"));
  }
  return edits;
}

PromptInputs Proposer::briefing(const RunState& state, const std::string& source) {
  PromptInputs inputs;
  inputs.program = program();
  inputs.task = setup_.task;
  inputs.harness = read_file(setup_.headers / "harness" / "harness.h");
  inputs.kernels = read_file(setup_.headers / "kernels" / "kernels.h");
  inputs.source = source;
  inputs.past = past_of(state);
  inputs.backlog = state.next_lines;
  std::string named;
  if (!state.experiments.empty())
    for (const std::string& line : state.experiments.back().candidate.next) named += line + "\n";
  inputs.asked = edits_named_in(named);
  inputs.measurements = measurements_of(
      state,
      [this](int64_t n) {
        return known_facts(trainer_record(setup_.run.experiment(n)),
                           trainer_record(setup_.run.experiment(0)));
      },
      setup_.memory_bytes);
  inputs.max_tokens = prompt_tokens(setup_.context_tokens);
  inputs.noise = noise_of(state.evidence).sigma;
  inputs.since_keep = state.since_keep;
  inputs.cuda = setup_.cuda;
  inputs.left = setup_.left(state);
  return inputs;
}

Prompt Proposer::first_prompt_of(const RunState& state, const std::string& source) {
  return first_prompt(briefing(state, source));
}

std::shared_ptr<Proposer::Talk> Proposer::fresh(const job::Propose& job, const std::string& base,
                                                const RunState& state) {
  const bool builtin = job.builtin;
  const std::string source = setup_.source_at(base);
  PromptInputs inputs = briefing(state, source);
  inputs.running = job.measured_now;
  if (!builtin) {
    const auto fits = state.fits.find(models_->proposers().next());
    if (fits != state.fits.end()) inputs.max_tokens = std::min(inputs.max_tokens, fits->second);
  }
  // The builtin proposer looks for code that is not known yet, on a thread of its own: it gets a
  // copy of what is known.
  auto known = builtin ? std::make_shared<RunState>(state) : nullptr;
  Dialogue dialogue(
      builtin ? nullptr : &models_->proposers(), std::move(inputs), setup_.cuda ? "cuda" : "cpu",
      static_cast<uint64_t>(job.n),
      [known](const std::string& source) { return known && known_result(*known, source); },
      builtin ? nullptr : models_->repairer());
  const std::string& left_out = dialogue.prompt().left_out;
  if (!left_out.empty() && said_left_out_.empty()) log_info("prompt      from now on: " + left_out);
  if (!left_out.empty()) said_left_out_ = left_out;
  return std::make_shared<Talk>(Talk{job.n, base, source, std::move(dialogue), /*on_record=*/0});
}

std::shared_ptr<Proposer::Talk> Proposer::begin(const job::Propose& job, const RunState& state) {
  fs::create_directories(setup_.run.experiment(job.n).path);
  if (!job.builtin)
    if (auto paid = reopen(job.n, state); paid && !paid->dialogue.open_reply().empty()) return paid;
  return fresh(job, state.champion, state);
}

std::shared_ptr<Proposer::Talk> Proposer::reopen(int64_t n, const RunState& state) {
  const fs::path file = setup_.run.experiment(n).conversation();
  std::error_code ignored;
  if (!models_ || !fs::exists(file, ignored)) return nullptr;
  const nlohmann::json memory = parse_untrusted(read_file(file));
  if (!memory.is_object() || !memory.contains("base") || !memory["base"].is_string())
    return nullptr;
  const auto base = memory["base"].get<std::string>();
  // A candidate that was applied to a later champion is no longer what its author talks about.
  if (n < state.next_n() && state.at(n).candidate.parent != base) return nullptr;
  auto talk = fresh({n}, base, state);
  talk->on_record = n < state.next_n() ? state.at(n).replies : state.replies;
  return talk->dialogue.recall(memory) ? talk : nullptr;
}

bool Proposer::go_on(const std::shared_ptr<Talk>& talk, const job::GoOn& job) {
  std::string text = job.problem;
  if (job.failure == Failure::kRun) text += "\n\n" + trainer_log(setup_.run.experiment(job.n));
  if (!talk->dialogue.feed_back({job.failure, text})) return false;
  keep(*talk, "");
  return true;
}

// A reply to the conversation so far, which loses history while a model finds it too long. What
// that model can't take at its shortest, the next one is asked in full.
Reply Proposer::ask(Talk& talk, done::Proposed& done) {
  while (true) {
    bool shortened = false;
    Reply reply = talk.dialogue.next();
    while (reply.too_long && talk.dialogue.shorten()) {
      shortened = true;
      reply = talk.dialogue.next();
    }
    if (reply.provider.empty()) reply.provider = talk.dialogue.name();
    if (shortened && reply.problem.empty())
      done.fits = event::Fits{reply.provider, talk.dialogue.prompt().tokens};
    if (!reply.too_long || talk.dialogue.has_begun()) return reply;
    models_->pass_over(reply);
    if (!models_->proposers().ready()) return reply;
    talk.dialogue.restore();
  }
}

// The conversation first: with it on disk, a repair that was paid for is not asked for again.
void Proposer::keep(const Talk& talk, const std::string& reply) {
  const ExperimentFolder folder = setup_.run.experiment(talk.n);
  if (!talk.dialogue.is_model()) return;
  nlohmann::json memory = talk.dialogue.memory();
  memory["base"] = talk.base;
  write_file(folder.conversation(),
             memory.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  if (!reply.empty()) write_file(folder.next_reply(), valid_utf8(reply));
  write_file(folder.prompt(), valid_utf8(talk.dialogue.transcript()));
}

void Proposer::keep_late(int64_t n, const std::string& reply) const {
  const ExperimentFolder folder = setup_.run.experiment(n);
  std::string latest;
  for (int k = 1; fs::exists(folder.reply(k)); ++k) latest = read_file(folder.reply(k));
  if (latest != valid_utf8(reply)) write_file(folder.next_reply(), valid_utf8(reply));
}

done::Proposed Proposer::turn(Talk& talk) {
  const bool is_model = talk.dialogue.is_model();
  done::Proposed done;
  done.n = talk.n;
  std::string text = talk.dialogue.open_reply();
  bool truncated = false;
  if (!text.empty()) {
    // It was paid for before a restart, which may have come before its file or its event.
    keep_late(talk.n, text);
    if (talk.dialogue.replies() > talk.on_record) done.replied = talk.dialogue.name();
  } else {
    const Reply reply = ask(talk, done);
    done.proposer = talk.dialogue.proposer();
    done.problem = reply.problem;
    if (!reply.problem.empty() && !interrupt_requested()) keep(talk, "");
    if (!reply.problem.empty()) {
      done.kind = !is_model        ? done::Proposed::kNothing
                  : reply.too_long ? done::Proposed::kSetback
                                   : done::Proposed::kNoReply;
      return done;
    }
    text = reply.text;
    truncated = reply.truncated;
    keep(talk, text);
    if (is_model) done.replied = reply.provider;
  }
  done.proposer = talk.dialogue.proposer();
  done.may_go_on = talk.dialogue.may_answer_again();
  done.may_mend = talk.dialogue.may_mend_run();
  done.kind = done::Proposed::kSetback;
  auto edit = apply_reply(talk.source, text, truncated, talk.dialogue.may_send_whole_file());
  if (const auto* feedback = std::get_if<Feedback>(&edit)) {
    done.problem = feedback->text;
    // A reply without an edit may be a question.
    if (text.find("<<<<<<<") == std::string::npos)
      if (const std::string edits = edits_named_in(text); !edits.empty())
        done.problem += "\n\nThe edits that you named:\n\n" + edits;
    return done;
  }
  auto& [proposal, source] = std::get<Edit>(edit);
  done.kind = done::Proposed::kDraft;
  done.draft = {std::move(source), talk.base,     proposal.idea,
                proposal.why,      done.proposer, proposal.next};
  return done;
}

}  // namespace autoresearch
