#include "agent/record/export.h"

#include <fmt/chrono.h>
#include <fmt/ranges.h>

#include <cctype>
#include <ctime>

#include "agent/edit/diff.h"
#include "agent/record/page_detail.h"
#include "agent/record/report.h"
#include "common/error.h"
#include "common/text.h"

namespace autoresearch {
namespace {

// "a-wider-model": letters and digits of the idea, for a file's name.
std::string slug_of(const std::string& idea) {
  constexpr size_t kMost = 50;
  std::string slug;
  for (const char c : lower(idea)) {
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) && c > 0;
    if (plain) slug += c;
    if (!plain && !slug.empty() && slug.back() != '-') slug += '-';
    if (slug.size() == kMost) break;
  }
  while (slug.ends_with('-')) slug.pop_back();
  return slug.empty() ? "change" : slug;
}

// Lines of at most 72 characters; one that `git am` would take for the patch's beginning or for
// another mail is indented.
std::string paragraph(const std::string& words) {
  constexpr size_t kWidth = 72;
  std::string text, rest = one_line(words, 2000);
  while (!rest.empty()) {
    std::string line = first_chars(rest, kWidth);
    const size_t blank = line.rfind(' ');
    if (line.size() < rest.size() && blank != std::string::npos) line.resize(blank);
    rest.erase(0, line.size());
    rest.erase(0, std::min(rest.size(), rest.find_first_not_of(' ')));
    const bool special = line.starts_with("---") || line.starts_with("diff ") ||
                         line.starts_with("Index:") || line.starts_with("From ") ||
                         line.starts_with(">From") || line.starts_with("-- ");
    text += (special ? " " : "") + line + "\n";
  }
  return text;
}

// As e-mail has it, in UTC.
std::string mail_date(const std::string& utc) {
  const auto seconds = static_cast<std::time_t>(seconds_of_utc(utc).value_or(0));
  return fmt::format("{:%a, %d %b %Y %H:%M:%S} +0000", fmt::gmtime(seconds));
}

std::string evidence_of(const RunFolder& run, const RunState& state, const Experiment& e,
                        const Figures& figures) {
  const double after = figures.bpb.value_or(0), change = figures.change.value_or(0);
  std::string text = fmt::format(
      "val_bpb {:.6f} -> {:.6f} ({:+.6f}), measured {}; {}.\nNoise of one measurement: {}.\n",
      after - change, after, change,
      e.again.empty() ? "once" : fmt::format("{} times", e.again.size() + 1),
      e.is_dropped() ? "dropped later by fresh measurements" : name_of(certainty_of(e)),
      noise_in_words(noise_of(state.evidence)));
  if (const auto compared = against_parent(run, state, e.n))
    text += "It won " + name_of(compared->won_by) + ".\n";
  return text;
}

std::string source_of(const RunFolder& run, const std::string& commit) {
  const fs::path source = run.champion(commit).source();
  check(fs::exists(source), fmt::format("the source of a champion is missing: {}; its commit is {}",
                                        source.native(), commit));
  return read_file(source);
}

// A commit for `git am`, without its difference: who and when, what, and why.
struct Mail {
  std::string commit, utc, subject, body;
};

Mail mail_of(const RunFolder& run, const RunState& state, const Experiment& e,
             const Figures& figures) {
  const std::string idea = one_line(e.candidate.idea, 200);
  // The model's words come second: `git am` takes headers from the first lines of a mail.
  std::string body = evidence_of(run, state, e, figures);
  if (!e.candidate.why.empty()) body += "\n" + paragraph(e.candidate.why);
  body += fmt::format("\nExperiment: {} {}\nProposed-by: {}\n", run.path.filename().native(), e.n,
                      one_line(e.candidate.proposer, 200));
  return {e.candidate.commit, e.end_utc, idea.empty() ? "no description" : idea, body};
}

Mail mail_of(const TrimmedTip& tip) {
  return {tip.commit, utc_text(tip.at), fmt::format("without #{}", fmt::join(tip.without, ", #")),
          fmt::format("Fresh measurements were better without what is taken out here.\n"
                      "val_bpb {:.6f}, the mean of those of the result.\n",
                      tip.bpb)};
}

// What made each champion after the baseline, in order.
std::vector<Mail> mails_of(const RunFolder& run, const RunState& state) {
  std::vector<Mail> mails;
  const std::vector<Figures> figures = figures_of(state);
  auto tip = state.trimmed.begin();
  for (const int64_t n : state.kept)
    mails.push_back(n < 0 ? mail_of(*tip++)
                          : mail_of(run, state, state.at(n), figures[static_cast<size_t>(n)]));
  return mails;
}

constexpr char kSender[] = "autoresearch <autoresearch@localhost>";

// What an earlier export wrote, which the next one replaces. Anything else is the user's.
bool is_exported(const fs::path& path) {
  const std::string name = path.filename();
  return path.extension() == ".patch" && name.size() > 5 && name[4] == '-' &&
         read_file(path).find(fmt::format("\nFrom: {}\n", kSender)) != std::string::npos;
}

// A train.cpp that is in the way is replaced only if the run has the same text: it may hold the
// user's own edits.
void check_replaceable(const fs::path& source, const RunFolder& run, const RunState& state) {
  if (!fs::exists(source)) return;
  const std::string text = read_file(source);
  std::vector<std::string> known = {state.at(0).candidate.commit, state.champion};
  for (const Mail& mail : mails_of(run, state)) known.push_back(mail.commit);
  check(std::any_of(known.begin(), known.end(),
                    [&](const std::string& commit) { return source_of(run, commit) == text; }),
        source.string() +
            " is not of this run, and export would replace it; name a new folder: "
            "--to FOLDER");
}

}  // namespace

std::vector<Patch> patches_of(const RunFolder& run, const RunState& state) {
  std::vector<Patch> patches;
  const std::vector<Mail> mails = mails_of(run, state);
  std::string before = mails.empty() ? "" : source_of(run, state.at(0).candidate.commit);
  for (size_t i = 0; i < mails.size(); ++i) {
    const Mail& mail = mails[i];
    const std::string after = source_of(run, mail.commit);
    Patch patch;
    patch.name = fmt::format("{:04}-{}.patch", i + 1, slug_of(mail.subject));
    patch.text = fmt::format(
        "From {} Mon Sep 17 00:00:00 2001\nFrom: {}\n"
        "Date: {}\nSubject: [PATCH {}/{}] {}\n"
        "MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\n"
        "Content-Transfer-Encoding: 8bit\n\n{}---\n{}-- \nautoresearch\n\n",
        mail.commit, kSender, mail_date(mail.utc), i + 1, mails.size(), mail.subject, mail.body,
        unified_diff(before, after, "train.cpp"));
    patches.push_back(std::move(patch));
    before = after;
  }
  return patches;
}

std::string export_run(const RunFolder& run, const RunState& state, const fs::path& folder) {
  check(!state.champion.empty(),
        "run " + run.path.filename().string() + " has no baseline yet; see: build/agent status");
  const std::vector<Patch> patches = patches_of(run, state);
  fs::create_directories(folder);
  check_replaceable(folder / "train.cpp", run, state);
  std::vector<fs::path> earlier;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == ".patch") {
      check(entry.is_regular_file() && is_exported(entry.path()),
            entry.path().string() + " is not of an export; name a new folder: --to FOLDER");
      earlier.push_back(entry.path());
    }
  for (const fs::path& path : earlier) fs::remove(path);
  for (const Patch& patch : patches) write_file(folder / patch.name, patch.text);
  write_file(folder / "train.cpp", source_of(run, state.champion));

  std::string said = fmt::format("{} patch{} and the champion's train.cpp are in {}\n",
                                 patches.size(), patches.size() == 1 ? "" : "es", folder.native());
  if (patches.empty()) return said;
  return said + fmt::format(
                    "as a branch, in the checkout that the run began in:\n"
                    "  git switch -c {}-wins {} && git am --keep-non-patch {}/*.patch\n"
                    "the whole gain: {}; what is kept was better when it was measured\n",
                    run.path.filename().native(), state.at(0).candidate.commit.substr(0, 12),
                    quoted(folder.string()), proof_line(state));
}

}  // namespace autoresearch
