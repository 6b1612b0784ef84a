#include "agent/record/export.h"

#include <fmt/chrono.h>

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
      e.proven ? e.proven->result + " by fresh measurements" : "not verified yet",
      noise_in_words(noise_of(state.evidence)));
  if (const auto compared = against_parent(run, state, e.n))
    text += "It won " + name_of(compared->won_by) + ".\n";
  return text;
}

std::string source_of(const RunFolder& run, const Experiment& e) {
  const fs::path source = run.champion(e.candidate.commit) / "train.cpp";
  check(fs::exists(source), fmt::format("the source of #{} is missing: {}; its commit is {}", e.n,
                                        source.native(), e.candidate.commit));
  return read_file(source);
}

std::vector<const Experiment*> kept(const RunState& state) {
  std::vector<const Experiment*> all;
  for (const Experiment& e : state.experiments)
    if (e.status == Status::kKeep) all.push_back(&e);
  return all;
}

bool is_patch(const fs::path& path) {
  const std::string name = path.filename();
  return path.extension() == ".patch" && name.size() > 5 && name[4] == '-';
}

}  // namespace

std::vector<Patch> patches_of(const RunFolder& run, const RunState& state) {
  std::vector<Patch> patches;
  const std::vector<Figures> figures = figures_of(state);
  const std::vector<const Experiment*> wins = kept(state);
  for (size_t i = 1; i < wins.size(); ++i) {
    const Experiment& e = *wins[i];
    const std::string idea = one_line(e.candidate.idea, 200);
    Patch patch;
    patch.name = fmt::format("{:04}-{}.patch", i, slug_of(idea));
    patch.text = fmt::format(
        "From {} Mon Sep 17 00:00:00 2001\nFrom: autoresearch <autoresearch@localhost>\n"
        "Date: {}\nSubject: [PATCH {}/{}] {}\n"
        "MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\n"
        "Content-Transfer-Encoding: 8bit\n\n",
        e.candidate.commit, mail_date(e.end_utc), i, wins.size() - 1,
        idea.empty() ? "no description" : idea);
    // The model's words come second: `git am` takes headers from the first lines of a message.
    patch.text += evidence_of(run, state, e, figures[static_cast<size_t>(e.n)]);
    if (!e.candidate.why.empty()) patch.text += "\n" + paragraph(e.candidate.why);
    patch.text +=
        fmt::format("\nExperiment: {} {}\nProposed-by: {}\n---\n{}-- \nautoresearch\n\n",
                    run.path.filename().native(), e.n, one_line(e.candidate.proposer, 200),
                    unified_diff(source_of(run, *wins[i - 1]), source_of(run, e), "train.cpp"));
    patches.push_back(std::move(patch));
  }
  return patches;
}

std::string export_run(const RunFolder& run, const RunState& state, const fs::path& folder) {
  const std::vector<const Experiment*> wins = kept(state);
  check(!wins.empty(),
        "run " + run.path.filename().string() + " has no baseline yet; see: build/agent status");
  const std::vector<Patch> patches = patches_of(run, state);
  fs::create_directories(folder);
  std::vector<fs::path> earlier;
  for (const auto& entry : fs::directory_iterator(folder))
    if (is_patch(entry.path())) earlier.push_back(entry.path());
  for (const fs::path& path : earlier) fs::remove(path);
  for (const Patch& patch : patches) write_file(folder / patch.name, patch.text);
  write_file(folder / "train.cpp", source_of(run, *wins.back()));

  std::string said = fmt::format("{} patches and the champion's train.cpp are in {}\n",
                                 patches.size(), folder.native());
  if (!patches.empty())
    said += fmt::format(
        "as a branch, in the checkout that the run began in:\n"
        "  git switch -c {}-wins {} && git am --keep-non-patch {}/*.patch\n",
        run.path.filename().native(), wins.front()->candidate.commit.substr(0, 12),
        quoted(folder.string()));
  const std::string proof = proof_line(state);
  return said + "the whole gain: " + (proof.empty() ? "not verified yet" : proof) +
         "; what is kept was better when it was measured\n";
}

}  // namespace autoresearch
