#include "agent/loop/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "agent/loop/proving.h"

namespace autoresearch {
namespace {

// The question "what now?", asked once. Each function below answers it for one concern, or leaves
// it to the next; look() names the time of the next question, if time alone can change the answer.
class Question {
 public:
  Question(const RunState& state, const Settings& settings, const InFlight& flight, double now)
      : state_(state), settings_(settings), flight_(flight), now_(now) {}

  Plan answer() {
    // In this order: what a user wants and a broken machine come before everything, the end of a
    // measurement before a new one, the proof before the slot, the slot before the search for
    // ideas.
    for (const auto ask :
         {&Question::stop_at_once, &Question::pauses, &Question::broken_machine, &Question::trouble,
          &Question::finished_measurements, &Question::stop_softly, &Question::heldout,
          &Question::proof, &Question::plateau, &Question::talks, &Question::slot,
          &Question::proposals, &Question::stop_at_the_end}) {
      if (auto step = (this->*ask)()) return {std::move(step), 0};
      if (waits_) break;
    }
    return {std::nullopt, look_again_};
  }

 private:
  std::optional<Step> stop_at_once() {
    if (flight_.stop_now) return interrupted();
    if (flight_.task_changed)
      return step::Stop{step::Stop::kTaskChanged,
                        "the task was made anew during the run; start a new --tag"};
    return std::nullopt;
  }

  std::optional<Step> pauses() {
    if (flight_.user_pauses && state_.paused.empty()) return step::Pause{kPausedByUser};
    if (!flight_.user_pauses && state_.paused == kPausedByUser) return step::Resume{};
    return std::nullopt;
  }

  // A crash that says something of the machine, or several for one reason: the champion is run for
  // a few steps. If it fails too, nothing counts until it works again, and what crashed meanwhile
  // is measured anew.
  std::optional<Step> broken_machine() {
    if (flight_.slot_is_busy() || !flight_.stuck.empty() || state_.champion.empty() ||
        state_.paused == kPausedByUser)
      return std::nullopt;
    const bool broken = state_.canary && !state_.canary->empty();
    const bool paused = !state_.paused.empty() && state_.paused != kPausedByUser;
    if (broken && state_.paused.empty()) return step::Pause{*state_.canary};
    if (broken && paused) {
      if (flight_.stop_soon) return interrupted();
      const double again = state_.canary_at + kCanaryAgain;
      if (now_ >= again) return step::Canary{};
      return wait_until(again);
    }
    if (state_.canary && paused) {
      // It works again: the burned candidates first, then the night goes on.
      if (!state_.crashes_alike.empty()) return step::Again{state_.crashes_alike.back()};
      for (const int64_t n : state_.open)
        if (is_broken(state_.at(n))) return step::Again{n};
      return step::Resume{};
    }
    if (state_.proof && state_.proof->broken) return step::Canary{};
    for (const auto& [n, talk] : flight_.talks)
      if (waits_for_a_look(talk)) return step::Canary{};
    for (const int64_t n : state_.open) {
      const Experiment& e = state_.at(n);
      if (n == 0 || !is_broken(e)) continue;
      if (!state_.canary || state_.canary_at < e.ended_at) return step::Canary{};
      // The champion runs: what failed is over, or the candidate's own doing. Once more tells.
      if (e.reopened == 0) return step::Again{n};
    }
    if (state_.canary) return std::nullopt;
    const size_t alike = state_.crashes_alike.size();
    if (alike > 0 && alike % kFailuresAlike == 0) return step::Canary{};
    return std::nullopt;
  }

  // Its build named the machine, which was not looked at since.
  bool waits_for_a_look(const Talk& talk) const {
    return talk.stage == Talk::kEdited && talk.broken_at > 0 &&
           (!state_.canary || state_.canary_at < talk.broken_at);
  }

  static bool is_broken(const Experiment& e) { return e.measured && !e.measured->broken.empty(); }

  // Nothing begins while the run is paused or rests after an error of its own; what is under way
  // goes on.
  std::optional<Step> trouble() {
    if (!state_.paused.empty()) {
      if (flight_.stop_soon && !flight_.is_measuring()) return interrupted();
      return wait_until(INFINITY);
    }
    if (state_.troubles_in_row == 0) return std::nullopt;
    const double until = state_.last_trouble_at + trouble_pause(state_.troubles_in_row);
    if (now_ < until) {
      if (flight_.stop_soon && !flight_.is_measuring()) return interrupted();
      return wait_until(until);
    }
    if (state_.troubles_in_row % kTroublesInARow != 0 || flight_.slot_is_busy() || state_.proof)
      return std::nullopt;
    // Only an experiment that was not measured is given up: a measurement is worth any wait.
    for (const int64_t n : state_.open)
      if (n > 0 && !state_.at(n).measured)
        return step::GiveUp{n, "the loop failed again and again; its log says at what", true};
    return std::nullopt;
  }

  // From a measurement to a verdict, or to a repair.
  std::optional<Step> finished_measurements() {
    for (const int64_t n : state_.open) {
      const Experiment& e = state_.at(n);
      if (flight_.measuring == n) continue;
      if (!e.measured) {
        if (auto step = hopeless(e)) return step;
        continue;
      }
      // Whether it was the machine, a look at it must tell first.
      if (n > 0 && is_broken(e) && (!state_.canary || state_.canary_at < e.ended_at)) continue;
      if (n == 0 || is_broken(e) || !is_repairable(*e.measured)) return step::Judge{n};
      auto repair = repair_of(e);
      if (!repair) continue;  // it is under way
      // The first Ctrl-C begins none and ends none: the same command goes on with it.
      const bool may_ask = !flight_.stop_soon && !somebody_asks();
      if (!may_ask && !std::holds_alternative<step::Judge>(*repair)) continue;
      return repair;
    }
    return std::nullopt;
  }

  // What a crash that its author may mend asks for; nothing while the author is at it.
  std::optional<Step> repair_of(const Experiment& e) const {
    const auto talk = flight_.talks.find(e.n);
    if (talk == flight_.talks.end()) {
      // After a restart: the author's conversation lies in the folder, if a model is the author.
      if (e.replies > 0 && settings_.models && !proves()) return step::Reopen{e.n};
      return step::Judge{e.n};
    }
    if (talk->second.stage == Talk::kSetback && !talk->second.may_go_on) return step::Judge{e.n};
    if (talk->second.stage != Talk::kDone) return std::nullopt;
    return talk->second.may_go_on && !proves() ? Step{step::GoOn{e.n}} : Step{step::Judge{e.n}};
  }

  std::optional<Step> hopeless(const Experiment& e) {
    if (e.n == 0) return std::nullopt;
    if (e.open && e.interrupted >= kMostInterruptions)
      return step::GiveUp{e.n, "the run was interrupted twice while this was training", false};
    return std::nullopt;
  }

  // The first Ctrl-C: what is being measured ends, nothing else begins.
  std::optional<Step> stop_softly() {
    if (!flight_.stop_soon) return std::nullopt;
    if (flight_.is_measuring()) return wait_until(INFINITY);
    return interrupted();
  }

  // What was kept is scored on the test split at once: that costs one scoring.
  std::optional<Step> heldout() {
    if (!settings_.score_test || !slot_is_free() || now_ >= settings_.deadline) return std::nullopt;
    for (const Experiment& e : state_.experiments)
      if (e.status == Status::kKeep && !state_.tested.contains(e.candidate.commit))
        return step::Test{e.candidate.commit};
    if (!state_.tested.contains(state_.champion) && !state_.champion.empty())
      return step::Test{state_.champion};
    return std::nullopt;
  }

  bool slot_is_free() const {
    return !flight_.slot_is_busy() && flight_.stuck.empty() &&
           (settings_.overlap_builds || !somebody_builds());
  }

  bool proves() const {
    return state_.proof || settings_.only_proof ||
           (now_ >= proof_begins_at(state_, settings_) && now_ < settings_.deadline &&
            proof_budget(state_, settings_, now_) > 0);
  }

  // From the first measurement of a proof to its end nothing else is begun: what was proposed or
  // built meanwhile waits. At the deadline the blocks that are whole by then count.
  std::optional<Step> proof() {
    if (!state_.proof) return proof_begins();
    const bool over = now_ >= settings_.deadline;
    if (over && !flight_.slot_is_busy()) return step::EndProof{};
    if (!slot_is_free()) return wait_until(over ? INFINITY : settings_.deadline);
    const auto next = next_in(*state_.proof);
    if (!next) {
      auto changes = changes_to_drop(*state_.proof);
      return changes.empty() ? Step{step::EndProof{}} : Step{step::Trim{std::move(changes)}};
    }
    const bool disturbed =
        state_.proof->disturbed[static_cast<size_t>(next->block)].contains(next->arm);
    const double again = state_.proof->ended_at + settings_.disturbed_pause;
    if (disturbed && now_ < again) return wait_until(std::min(again, settings_.deadline));
    return step::MeasureArm{*next};
  }

  std::optional<Step> proof_begins() {
    const double begins = proof_begins_at(state_, settings_);
    if (now_ < begins) look(begins);
    if (proves()) {
      if (!slot_is_free()) return wait_until(INFINITY);
      if (const int64_t budget = proof_budget(state_, settings_, now_); budget > 0)
        return step::BeginProof{budget};
      return step::Stop{step::Stop::kLimit, "the proof has ended"};
    }
    // What is left of a time whose last part has proven is too short for more.
    if (state_.verified && state_.verified_at >= begins && !flight_.slot_is_busy() &&
        state_.verified->tip == state_.champion)
      return step::Stop{step::Stop::kLimit, "the time that was given is over"};
    return std::nullopt;
  }

  std::optional<Step> plateau() {
    if (state_.since_keep < kPlateau) return std::nullopt;
    const std::string plateau = "plateau since #" + std::to_string(state_.champion_n);
    if (state_.told.contains(plateau)) return std::nullopt;
    return step::Tell{plateau};
  }

  std::optional<Step> talks() {
    for (const auto& [n, talk] : flight_.talks) {
      if (talk.stage == Talk::kSetback) {
        if (talk.may_go_on && somebody_asks()) continue;
        if (talk.may_go_on) return step::GoOn{n};
        if (!is_repair(n)) return step::Refuse{n};
      }
      if (talk.stage == Talk::kEdited && !is_repair(n) && n > 0 && talk.base != state_.champion)
        return step::Rebase{n};
      const bool may_build = settings_.overlap_builds || !flight_.slot_is_busy();
      if (talk.stage == Talk::kEdited && may_build && !somebody_builds() && !waits_for_a_look(talk))
        return step::Build{n};
    }
    return std::nullopt;
  }

  bool is_repair(int64_t n) const { return n < state_.next_n(); }

  // One author is asked at a time, because the workers have one thread for it.
  bool somebody_asks() const {
    return std::any_of(flight_.talks.begin(), flight_.talks.end(),
                       [](auto& t) { return t.second.stage == Talk::kAsking; });
  }

  bool somebody_builds() const {
    return flight_.building || std::any_of(flight_.talks.begin(), flight_.talks.end(), [](auto& t) {
             return t.second.stage == Talk::kBuilding;
           });
  }

  // The slot is free: what is measured next. A build that waits for it has been answered above.
  std::optional<Step> slot() {
    if (!slot_is_free()) return std::nullopt;
    if (state_.experiments.empty()) {
      if (flight_.talks.contains(0)) return std::nullopt;
      return step::Baseline{};
    }
    if (auto step = owed_repeat()) return step;
    for (const int64_t n : state_.open) {
      const Experiment& e = state_.at(n);
      const auto talk = flight_.talks.find(n);
      const bool talking = talk != flight_.talks.end() && talk->second.stage != Talk::kDone;
      if (e.measured || talking || now_ >= settings_.deadline) continue;
      if (e.spoilt > 0 && now_ < e.ended_at + settings_.disturbed_pause) {
        look(e.ended_at + settings_.disturbed_pause);
        continue;
      }
      const bool overtaken = n > 0 && e.attempts == 0 && e.candidate.parent != state_.champion;
      if (overtaken) return step::Rebase{n};
      if (!flight_.built.contains(n)) return step::Build{n};
      return step::Measure{n};
    }
    return std::nullopt;
  }

  // A champion that is to be measured again goes first: decisions rest on it.
  std::optional<Step> owed_repeat() {
    if (state_.champion.empty() || now_ >= settings_.deadline) return std::nullopt;
    const Experiment& champion = state_.at(state_.champion_n);
    if (repeats_owed(state_.evidence, settings_.keep) == 0 || champion.failed_again > 1 ||
        champion.spoilt > kMostDisturbances || state_.told.contains(no_repeat_of(champion.n)))
      return std::nullopt;
    const double again = champion.ended_at + settings_.disturbed_pause;
    if (champion.spoilt > 0 && now_ < again) {
      look(again);
      return std::nullopt;
    }
    return step::Measure{champion.n, true};
  }

  // One candidate is made ahead of the one that is measured, no more: it should know what came of
  // those before it.
  std::optional<Step> proposals() {
    if (state_.champion.empty() || no_more_wanted()) return std::nullopt;
    const bool measuring = flight_.slot_is_busy() || !flight_.stuck.empty();
    if (measuring && !settings_.overlap_proposals) return std::nullopt;
    size_t waiting = 0;  // candidates that are not measured yet
    for (const int64_t n : state_.open) waiting += !state_.at(n).measured && flight_.measuring != n;
    if (waiting > 0) return std::nullopt;
    for (const auto& [n, talk] : flight_.talks)
      if (talk.stage != Talk::kDone) return std::nullopt;
    return next_proposal();
  }

  std::optional<Step> next_proposal() {
    const int64_t n = state_.next_n();
    if (state_.replies > 0 && settings_.models) return reopened(n);
    const auto failed =
        std::count(state_.proposals_failed.begin(), state_.proposals_failed.end(), true);
    if (state_.proposals_failed.size() == 20 && failed >= 10) return step::RestModels{kModelsRest};
    const bool resting = now_ < state_.models_rest_until;
    const bool models = settings_.models && flight_.models_ready && !resting;
    if (models && !is_tuners_turn()) return step::Propose{n, false};
    if (state_.exhausted.empty()) return step::Propose{n, true};
    // Nobody has an idea: only a model that comes back can help.
    if (resting) look(state_.models_rest_until);
    if (settings_.models && !flight_.models_ready) look(now_ + flight_.models_ready_in);
    return std::nullopt;
  }

  // A conversation that was left goes on. If no model can be asked its next reply for now, it
  // waits; if none ever can, it comes to nothing.
  std::optional<Step> reopened(int64_t n) {
    const auto gone = flight_.unanswered.find(n);
    if (flight_.models_ready || gone == flight_.unanswered.end()) return step::Reopen{n};
    if (!std::isfinite(flight_.models_ready_in)) return step::Refuse{n};
    look(now_ + flight_.models_ready_in);
    return std::nullopt;
  }

  // When its share is due, and after refusals in a row: then the models have had theirs.
  bool is_tuners_turn() const {
    if (!state_.exhausted.empty()) return false;
    const int turn = state_.refusals_in_row % (kRefusalsInARow + 1);
    if (turn > 0) return turn == kRefusalsInARow;
    const auto due_by = [&](int64_t n) {
      return std::floor(settings_.tuner_share * static_cast<double>(n));
    };
    return due_by(state_.next_n()) > due_by(state_.next_n() - 1);
  }

  // No candidate more would be measured.
  bool no_more_wanted() {
    if (now_ >= settings_.deadline) return true;
    look(settings_.deadline);
    return settings_.max_experiments > 0 && state_.next_n() - 1 >= settings_.max_experiments;
  }

  // A night that ends by a limit, or because nobody has an idea, proves what it kept.
  std::optional<Step> stop_at_the_end() {
    auto step = limit();
    if (!step || !settings_.may_prove()) return step;
    const int64_t budget = proof_budget(state_, settings_, now_);
    return budget > 0 ? Step{step::BeginProof{budget}} : std::move(step);
  }

  std::optional<Step> limit() {
    if (flight_.slot_is_busy()) return std::nullopt;
    if (now_ >= settings_.deadline)
      return step::Stop{step::Stop::kLimit, "the time that was given is over"};
    if (state_.champion.empty()) return std::nullopt;
    const auto waiting = std::any_of(state_.open.begin(), state_.open.end(),
                                     [&](int64_t n) { return !state_.at(n).measured; });
    const bool enough =
        settings_.max_experiments > 0 && state_.next_n() - 1 >= settings_.max_experiments;
    if (enough && state_.open.empty())
      return step::Stop{step::Stop::kLimit,
                        fmt::format("--max-experiments {} reached", settings_.max_experiments)};
    const bool asking = std::any_of(flight_.talks.begin(), flight_.talks.end(),
                                    [](auto& t) { return t.second.stage != Talk::kDone; });
    // From here on: nothing is open, so the run ends if nobody can propose.
    if (waiting || asking || !state_.open.empty()) return std::nullopt;
    if (state_.refusals_in_row >= kGiveUpProposing)
      return step::Stop{step::Stop::kNothingLeft,
                        fmt::format("{} proposals in a row came to nothing, the last: {}",
                                    state_.refusals_in_row, state_.last_refusal)};
    if (state_.exhausted.empty()) return std::nullopt;
    if (!settings_.models) return step::Stop{step::Stop::kNothingLeft, state_.exhausted};
    if (!flight_.models_ready && !std::isfinite(flight_.models_ready_in))
      return step::Stop{step::Stop::kNothingLeft,
                        "no model can be asked any more, and the builtin proposer has nothing "
                        "left"};
    return std::nullopt;
  }

  static Step interrupted() {
    return step::Stop{step::Stop::kInterrupted, "interrupted; the same command goes on"};
  }

  void look(double at) { look_again_ = std::min(look_again_, std::max(0.0, at - now_)); }

  std::optional<Step> wait_until(double at) {
    look(at);
    waits_ = true;
    return std::nullopt;
  }

  const RunState& state_;
  const Settings& settings_;
  const InFlight& flight_;
  const double now_;
  double look_again_ = INFINITY;
  bool waits_ = false;
};

}  // namespace

std::string no_repeat_of(int64_t n) { return "no repeat of #" + std::to_string(n); }

double trouble_pause(int troubles) {
  return std::min(300.0, 5 * std::pow(2, std::max(0, troubles - 1)));
}

Plan plan(const RunState& state, const Settings& settings, const InFlight& flight, double now) {
  return Question(state, settings, flight, now).answer();
}

}  // namespace autoresearch
