#include "agent/llm/chain.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "common/back_off.h"
#include "common/error.h"
#include "common/process.h"
#include "common/progress.h"

namespace autoresearch {
namespace {

constexpr double kLongestPause = 3600;
constexpr double kNever = std::numeric_limits<double>::infinity();

}  // namespace

Chain::Chain(std::vector<std::shared_ptr<Link>> links, double first_wait,
             std::function<double()> clock, std::function<void(const std::string&)> say)
    : links_(std::move(links)),
      first_wait_(first_wait),
      clock_(std::move(clock)),
      say_(std::move(say)) {
  check(!links_.empty(), "a chain without a model");
}

std::string Chain::name() const { return links_.front()->provider->name(); }

Reply Chain::ask(const std::vector<Message>& conversation) {
  Reply reply = failed_reply("no model is ready to be asked", false);
  for (const auto& link : links_) {
    if (clock_() < link->not_before) continue;
    reply = link->provider->ask(conversation);
    if (reply.too_long || interrupt_requested()) return reply;
    if (reply.problem.empty()) {
      came_back(*link);
      pass_on(*link, reply);
      return reply;
    }
    went(*link, reply);
  }
  return reply;
}

std::string Chain::next() const {
  for (const auto& link : links_)
    if (clock_() >= link->not_before) return link->provider->name();
  return name();
}

void Chain::pass_over(const Reply& reply) {
  for (const auto& link : links_) {
    if (clock_() < link->not_before || link->provider->name() != reply.provider) continue;
    return went(*link, reply);
  }
}

double Chain::seconds_until_ready() const {
  double soonest = kNever;
  for (const auto& link : links_) soonest = std::min(soonest, link->not_before.load());
  return std::max(0.0, soonest - clock_());
}

void Chain::introduce(bool one_must_answer) {
  std::vector<std::pair<Link*, Reply>> failed;
  bool hope = false, answered = false;
  for (const auto& link : links_) {
    if (std::exchange(link->introduced, true)) {
      hope = true;
      answered |= !link->down();
      continue;
    }
    const Reply reply = link->provider->ask({{"system", "You answer in plain text.", true},
                                             {"user", "Reply with the single word: ready"}});
    if (interrupt_requested()) return;
    hope |= !reply.fatal || reply.used_up;
    if (!reply.problem.empty() && !reply.is_there) {
      failed.emplace_back(link.get(), reply);
      continue;
    }
    answered = true;
    say_(link->provider->name() + " answered in " + human_seconds(reply.seconds));
    pass_on(*link, reply);
  }
  if (!hope) throw Error(failed.at(0).second.problem);
  if (one_must_answer && !answered)
    throw Error(failed.at(0).second.problem +
                "; no model has answered yet; to begin with the builtin proposer alone, add "
                "--fallback builtin");
  for (const auto& [link, reply] : failed) went(*link, reply);
}

void Chain::went(Link& link, const Reply& reply) {
  const bool first = !link.down();
  ++link.failures;
  const double pause = reply.wait > 0 ? std::min(kLongestPause, reply.wait)
                                      : back_off(first_wait_, link.failures - 1, kLongestPause);
  link.not_before = reply.used_up ? kNever : clock_() + pause;
  if (!first) return;
  const bool others = std::any_of(links_.begin(), links_.end(),
                                  [&](const auto& other) { return clock_() >= other->not_before; });
  const std::string later =
      reply.used_up ? "" : "; it is tried again, next in " + human_seconds(pause);
  say_(reply.problem + later + "; going on with " +
       (others ? "the next model" : "the builtin proposer"));
}

void Chain::pass_on(Link& link, const Reply& reply) {
  if (!reply.note.empty() && link.notes.insert(reply.note).second)
    say_(link.provider->name() + ": " + reply.note);
}

void Chain::came_back(Link& link) {
  if (link.down()) say_(link.provider->name() + " answers again");
  link.failures = 0;
  link.not_before = 0;
}

}  // namespace autoresearch
