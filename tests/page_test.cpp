// report.html as a reader has it: its figures, and in a headless Chromium, if there is one here,
// what the page does with them.

#include "agent/record/page.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <regex>
#include <set>

#include "agent/record/journal.h"
#include "agent/record/page_detail.h"
#include "common/process.h"
#include "common/text.h"
#include "tests/story.h"
#include "tests/support.h"

namespace autoresearch {
namespace {

using nlohmann::json;

// What a model or a log could hold to become something else than text.
const std::string kEvil =
    "</script><script>alert('1')</script>\"><img src=x onerror=alert(2)>&amp;<!-- \t\x1b[31mred\x1b"
    "[0m \xe2\x80\xae"
    "desrever\xe2\x80\xac \xe2\x81\xa6 {details} ]]> ${run} end";

// A loss that falls by `rate` a step.
std::string record_of(int64_t steps, double rate) {
  json curve = json::array();
  const int64_t stride = std::max<int64_t>(1, steps / 150);
  for (int64_t step = 0; step < steps; step += stride)
    curve.push_back(
        {step, 0.03 * static_cast<double>(step + 1),
         2 + 4 / (1 + rate * static_cast<double>(step)) + 0.02 * static_cast<double>(step % 3)});
  return json{{"loss_curve", curve}, {"configuration", {{"total_batch", 1024}}}, {"steps", steps}}
      .dump(1);
}

class PageTest : public FolderTest {
 protected:
  Status status_of_night(int64_t n) {
    return n == 0 || n % 9 == 1 ? Status::kKeep : n % 7 == 3 ? Status::kCrash : Status::kDiscard;
  }

  void write_folder(int64_t n) {
    const std::string folder = fmt::format("t/experiments/{:04}/", n);
    const bool kept = status_of_night(n) == Status::kKeep;
    file(folder + "train.json",
         record_of(kept ? 180 : 150, kept ? 0.05 + 0.001 * static_cast<double>(n) : 0.04));
    file(folder + "run.log", "train: error: " + kEvil + "\n" + std::string(3000, 'l'));
    if (n == 0) return;
    std::string diff =
        "--- a/train.cpp\n+++ b/train.cpp\n@@ -1,2 +1,2 @@\n-int a = 1;\n+int a = 2;  // " + kEvil +
        "\n";
    for (int i = 0; i < 100; ++i)
      diff += fmt::format(" const auto line{} = map<int>(x, {});\n", i, i);
    file(folder + "candidate.diff", diff);
    file(folder + "prompt.md", "Improve it. " + kEvil + std::string(20000, 'p'));
    file(folder + "reply.md", "IDEA: better\n" + kEvil + std::string(9000, 'r'));
  }

  // A run of `count` experiments with all that can be in one, and the last one under way.
  RunState night(int64_t count) {
    Story story;
    story.now = *seconds_of_utc("2026-11-27T22:00:00Z");
    event::Start start;
    start.tag = start.task_name = "t";
    start.device = "cpu";
    story.tell(start);
    double best = 2.0843;  // the baseline is 0.01 better
    for (int64_t n = 0; n < count; ++n) {
      write_folder(n);
      event::Candidate candidate;
      candidate.n = n;
      candidate.commit = fmt::format("{:040x}", 0xabcdef0000 + n);
      candidate.parent = story.state.champion;
      candidate.idea =
          n % 5 == 2 ? kEvil : fmt::format("learning rate of the matrices, attempt {}", n);
      candidate.why = "It may learn faster.";
      candidate.proposer = n == 0 ? "baseline" : "openai:gpt-5";
      candidate.fingerprint = candidate.commit;
      candidate.areas = {n % 2 ? "Learning rates" : "Attention"};
      candidate.next = {fmt::format("try {} heads {}", n, kEvil)};
      story.tell(candidate, 20);
      if (n + 1 == count && n > 0) break;
      const Status status = status_of_night(n);
      Measured measured =
          status == Status::kCrash
              ? crashed()
              : measured_at(best -
                            (status == Status::kKeep ? 0.01 : -0.004 * static_cast<double>(n % 4)));
      if (status == Status::kKeep) best = *measured.bpb;
      measured.steps = n == 0 ? 71 : 168;
      measured.tokens_per_second = 50000;
      measured.memory_gb = 0.6;
      measured.machine.cores = 2;
      measured.machine.load = n % 6;
      story.measured(n, measured)
          .verdict(
              n, status,
              status == Status::kCrash ? "train ended with exit code " + std::to_string(n) : "");
      if (n == 0)
        for (const double again : {2.0741, 2.0751, 2.0738}) story.measured(0, measured_at(again));
    }
    return story.state;
  }

  std::string page(const RunState& state) {
    return ReportPage({dir_ / "t"}).html(state, *seconds_of_utc(utc_text(1.8e9)));
  }

  // What is in the script element of this id.
  static event::Verified proof(const RunState& state, double high, int64_t pairs) {
    event::Verified proof;
    proof.tip = state.champion;
    proof.verified = high < 0;
    proof.pairs = pairs;
    proof.mean = -0.01, proof.low = -0.02, proof.high = high;
    return proof;
  }

  json data(const std::string& html, const std::string& id) {
    const std::string begin = "<script type=\"application/json\" id=\"" + id + "\">";
    const size_t at = html.find(begin) + begin.size();
    return json::parse(html.substr(at, html.find("</script>", at) - at));
  }
};

size_t times(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST_F(PageTest, HoldsEveryExperimentWithItsFiguresAndItsFiles) {
  const std::string html = page(night(12));
  const json run = data(html, "run");
  ASSERT_EQ(run["experiments"].size(), 12u);
  EXPECT_EQ(run["champion"], 10);
  const json& row = run["experiments"][10];
  EXPECT_EQ(row["status"], "keep");
  EXPECT_EQ(row["parent"], 1);
  EXPECT_NEAR(row["change"].get<double>(), -0.01, 1e-9);
  EXPECT_EQ(row["won"], "by learning per step");
  EXPECT_EQ(row["steps"], 168);
  EXPECT_EQ(run["experiments"][11]["status"], "open");
  const json detail = data(html, "d10");
  std::vector<std::string> names;
  for (const json& text : detail["texts"]) names.push_back(text[0]);
  EXPECT_EQ(names,
            (std::vector<std::string>{"candidate.diff", "reply.md", "prompt.md", "run.log"}));
  EXPECT_EQ(detail["curve"].size(), 180u);
}

TEST_F(PageTest, SaysThatAGainIsVerifiedOnlyIfSomebodySaysSo) {
  RunState state = night(3);
  EXPECT_EQ(data(page(state), "run")["certainty"], "not verified yet");
  EXPECT_EQ(data(page(state), "run")["experiments"][1]["certainty"], "not verified yet");
  state.verified = proof(state, -0.005, 6);
  state.experiments[1].proven =
      event::ProvenChange{.n = 1, .effect = 0.01, .standard_error = 0.002, .result = "verified"};
  const json run = data(page(state), "run");
  EXPECT_EQ(run["certainty"], "verified");
  EXPECT_EQ(run["proof"]["pairs"], 6);
  EXPECT_EQ(run["proof"]["high"], -0.005);
  EXPECT_EQ(run["experiments"][1]["certainty"], "verified");
  EXPECT_NEAR(run["experiments"][1]["interval"][0].get<double>(), -0.014, 1e-9);
  EXPECT_NEAR(run["experiments"][1]["interval"][1].get<double>(), -0.006, 1e-9);
  state.verified->tip = "an older champion";
  EXPECT_EQ(data(page(state), "run")["certainty"], "not verified yet");
}

TEST_F(PageTest, EveryKeptCommitHasItsTestScoreAndItsCost) {
  RunState state = night(3);
  state.tested[state.at(1).candidate.commit].bpb = 2.09;
  state.usd_for[1] = 0.25;
  const json run = data(page(state), "run");
  EXPECT_EQ(run["experiments"][1]["test"], 2.09);
  EXPECT_EQ(run["experiments"][1]["usd"], 0.25);
  EXPECT_FALSE(run["experiments"][0].contains("test"));
  EXPECT_EQ(run["test"], 2.09) << "without a proof too";
}

TEST_F(PageTest, NamesTheSandboxAndSaysIfItIsTheWeakerOne) {
  Story story;
  EXPECT_EQ(page(story.start().state).find("[\"sandbox\""), std::string::npos) << "not known";
  event::Start start;
  start.sandbox = "bubblewrap";
  story.tell(start);
  EXPECT_NE(page(story.state).find("[\"sandbox\",\"bubblewrap\"]"), std::string::npos);
  start.sandbox = "landlock";
  EXPECT_NE(
      page(story.tell(start).state).find("\"bubblewrap, then landlock (landlock is weaker than "),
      std::string::npos);
}

TEST_F(PageTest, SaysThatTheMachineWasBusyInWhatCounts) {
  RunState state = night(3);
  state.experiments[1].measured->busy = "a build took a core";
  EXPECT_EQ(data(page(state), "run")["experiments"][1]["busy"], "a build took a core");
}

TEST_F(PageTest, NamesTheExperimentsThatSawAnotherProgram) {
  RunState state = night(3);
  EXPECT_EQ(page(state).find("program.md changed"), std::string::npos);
  state.program_changes = {1, 2};
  EXPECT_NE(page(state).find("[\"program.md changed\",\"before #1, #2\"]"), std::string::npos);
}

TEST_F(PageTest, NoiseIsThatOfTheCodeThatWasMeasuredMoreThanOnce) {
  const json run = data(page(night(3)), "run");
  EXPECT_EQ(run["noise"]["freedom"], 3);
  EXPECT_NEAR(run["noise"]["sigma"].get<double>(), 5.56e-4, 2e-6);
  EXPECT_FALSE(data(page(RunState{}), "run").contains("noise"));
}

TEST_F(PageTest, NothingThatAModelWroteBecomesMarkup) {
  const std::string html = page(night(8));
  const std::string quiet = page(RunState{});
  EXPECT_EQ(times(html, "<script"), times(quiet, "<script") + 8) << "one more an experiment";
  EXPECT_EQ(times(html, "</script"), times(html, "<script"));
  EXPECT_EQ(times(html, "<img"), 0u);
  EXPECT_EQ(times(html, "<!--"), 0u);
  for (const char* unseen : {"\x1b", "\\u001b", "\xe2\x80\xae", "\xe2\x81\xa6"})
    EXPECT_EQ(html.find(unseen), std::string::npos) << unseen;
  EXPECT_NE(data(html, "run")["experiments"][2]["idea"].get<std::string>().find(
                "<script>alert('1')</script>\"><img src=x onerror=alert(2)>&amp;<!--"),
            std::string::npos);
}

TEST_F(PageTest, BytesThatAreNotUtf8LeaveAValidPage) {
  RunState state = night(2);
  state.experiments[1].candidate.idea = "caf\xe9 \xff\xfe \xed\xa0\x80 fine \u00e9 \0 nul";
  state.experiments[1].reason = "\xc3";
  file("t/experiments/0001/reply.md", std::string(70000, '\xc3'));
  const std::string html = page(state);
  EXPECT_EQ(html, valid_utf8(html));
  EXPECT_NE(html.find("fine \u00e9"), std::string::npos);
}

TEST_F(PageTest, ARecordThatACandidateForgedIsNoCurve) {
  const RunState state = night(2);
  for (const char* forged :
       {"[]", "{\"loss_curve\": 3}", "{\"loss_curve\": [[1, 2], [\"a\", 2, 3], 7, null, {}]}",
        "{\"loss_curve\": {\"a\": [1, 2, 3]}, \"configuration\": [1]}", "\x80", ""}) {
    file("t/experiments/0001/train.json", forged);
    const std::string html = page(state);
    EXPECT_FALSE(data(html, "d1").contains("curve")) << forged;
    EXPECT_FALSE(data(html, "run")["experiments"][1].contains("won")) << forged;
  }
}

TEST_F(PageTest, ReadsAClosedExperimentOnceAndAnOpenOneEachTime) {
  const RunState state = night(4);
  ReportPage pages({dir_ / "t"});
  const std::string before = pages.html(state, 1);
  for (const char* n : {"0002", "0003"})
    file(std::string("t/experiments/") + n + "/candidate.diff", "another");
  const std::string after = pages.html(state, 1);
  EXPECT_EQ(data(before, "d2"), data(after, "d2"));
  EXPECT_NE(data(before, "d3"), data(after, "d3"));
}

TEST_F(PageTest, AFileOfAnExperimentThatIsALinkIsNotFollowed) {
  const RunState state = night(2);
  fs::remove(dir_ / "t/experiments/0001/run.log");
  fs::create_symlink(file("secret", "hidden words"), dir_ / "t/experiments/0001/run.log");
  EXPECT_EQ(page(state).find("hidden words"), std::string::npos);
}

TEST_F(PageTest, NamesNothingThatABrowserWouldFetch) {
  const std::string html = page(RunState{});
  for (const char* part : {"src=", "url(", "@import", "fetch(", "XMLHttpRequest", "href=\"http"})
    EXPECT_EQ(html.find(part), std::string::npos) << part;
  for (const char* parser : {"innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval("})
    EXPECT_EQ(html.find(parser), std::string::npos) << parser;
  EXPECT_NE(html.find("default-src 'none'"), std::string::npos);
}

TEST(Excerpt, KeepsOnePartAndSaysWhatIsMissing) {
  EXPECT_EQ(excerpt("short", 10, Part::kBeginning), "short");
  EXPECT_EQ(excerpt(std::string(3000, 'a') + "end", 4, Part::kEnd),
            "[3.0 kB are not shown here]\naend");
  EXPECT_EQ(excerpt("\u00e9\u00e9" + std::string(3000, 'a'), 3, Part::kBeginning),
            "\u00e9\n[3.0 kB are not shown here]");
}

TEST(DetailBytes, LeaveAThousandExperimentsRoomBelowTenMegabytes) {
  EXPECT_EQ(detail_bytes(1), size_t{64} << 10);
  for (size_t n = 1; n < 20000; n = n * 3 / 2 + 1) EXPECT_LE(n * detail_bytes(n), size_t{8} << 20);
}

// ------------------------------------------------------------------------------------------------
// In a browser

std::string browser() {
  for (const char* name : {"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"})
    for (const char* folder : {"/usr/bin/", "/usr/local/bin/", "/snap/bin/"})
      if (fs::exists(std::string(folder) + name)) return std::string(folder) + name;
  return "";
}

// A page around the page, as wide as wanted (Chromium's own window has no width below 500), which
// writes down what it is told.
constexpr const char* kFrame = R"js(<!doctype html><meta name="color-scheme" content="light dark">
<body><script>onmessage = message => {
  const out = document.createElement('pre');
  out.id = 'seen';
  out.textContent = message.data;
  document.body.append(out);
};</script><iframe src="report.html" style="border:0;height:850px;width:)js";

// Looks at the page from inside, when it has settled, and tells what it saw.
constexpr const char* kLook = R"js(<script>
addEventListener('load', () => setTimeout(() => {
  const seen = {};
  document.getElementById('axis').click();
  seen.hours = document.querySelectorAll('#chart a').length;
  document.getElementById('axis').click();
  const points = [...document.querySelectorAll('#chart a')];
  seen.rows = document.querySelectorAll('#all tbody tr').length;
  seen.points = points.length;
  seen.wide = document.documentElement.scrollWidth > innerWidth;
  seen.width = innerWidth;
  seen.letters = parseFloat(getComputedStyle(document.querySelector('#chart text')).fontSize) *
    document.querySelector('#chart svg').getScreenCTM().a;
  seen.background = getComputedStyle(document.body).backgroundColor;
  seen.made = document.querySelectorAll('img, #failed script, #all script, dialog script').length;
  seen.ready = performance.getEntriesByType('navigation')[0].loadEventStart;
  seen.requests = performance.getEntriesByType('resource').length;
  seen.top = document.getElementById('top').innerText;
  seen.wins = document.getElementById('wins').innerText.slice(0, 3000);
  seen.opened = [];
  const open = list => {
    const point = list.shift();
    if (!point) {
      parent.postMessage(JSON.stringify(seen), '*');
      return;
    }
    point.scrollIntoView({block: 'center'});
    const box = point.querySelector('.point').getBoundingClientRect();
    const hit = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
    hit.dispatchEvent(new MouseEvent('click', {bubbles: true, cancelable: true, view: window}));
    setTimeout(() => {
      const dialog = document.getElementById('detail');
      seen.opened.push({open: dialog.open, text: dialog.innerText.slice(0, 3000),
        curves: dialog.querySelectorAll('svg path').length,
        added: dialog.querySelectorAll('.diff .added').length});
      document.getElementById('close')?.click();
      setTimeout(() => open(list), 50);
    }, 50);
  };
  const named = points.filter(point => ['#1', '#3'].includes(point.getAttribute('href')));
  open(named.length ? named : points.slice(-1));
}, 300));
</script>)js";

class BrowserTest : public PageTest {
 protected:
  void SetUp() override {
    if (browser().empty()) GTEST_SKIP() << "no Chromium here; install it: apt-get install chromium";
  }

  // What the page looks like from inside; `console` gets what Chromium says.
  json look(const std::string& html, bool dark, int width, std::string& console) {
    file("t/report.html", html + kLook);
    const fs::path path = file("t/frame.html", kFrame + std::to_string(width) + "px\"></iframe>");
    Command command;
    command.argv = {browser(),
                    "--headless",
                    "--no-sandbox",
                    "--disable-gpu",
                    "--disable-dev-shm-usage",
                    "--disable-background-networking",
                    "--hide-scrollbars",
                    "--user-data-dir=" + (dir_ / "profile").string(),
                    "--enable-logging=stderr",
                    fmt::format("--blink-settings=preferredColorScheme={}", dark ? 0 : 1),
                    fmt::format("--window-size={},900", width + 50),
                    "--virtual-time-budget=20000",
                    "--dump-dom",
                    "file://" + path.string()};
    command.limit = 120;
    const Exit exit = run(command);
    console.clear();
    for (const std::string& line : split_lines(exit.output))
      if (line.find("CONSOLE") != std::string::npos) console += line + "\n";
    const std::regex seen("<pre id=\"seen\">([^<]*)</pre>");
    std::smatch found;
    if (!std::regex_search(exit.output, found, seen)) {
      ADD_FAILURE() << "the page did not settle: " << exit.output.substr(0, 3000);
      return {};
    }
    return json::parse(unescaped_html(found[1].str()));
  }
};

TEST_F(BrowserTest, EveryExperimentIsThereAndItsPointOpensIt) {
  std::string console;
  RunState state = night(12);
  for (const int64_t n : {1, 10}) {
    state.experiments[static_cast<size_t>(n)].proven =
        event::ProvenChange{.n = n, .effect = 0.01, .standard_error = 0.002, .result = "verified"};
    state.tested[state.at(n).candidate.commit].bpb = 2.1;
    state.usd_for[n] = 12.34;
  }
  const json seen = look(page(state), false, 1200, console);
  EXPECT_EQ(console, "");
  EXPECT_EQ(seen["wide"], false) << "the table of wins has its room";
  const std::string wins = seen["wins"];
  for (const char* part : {"\u22120.0140 to \u22120.0060", "2.100000", "gap +0.0457", "$12.34"})
    EXPECT_NE(wins.find(part), std::string::npos) << part << wins;
  EXPECT_EQ(seen["rows"], 12);
  EXPECT_EQ(seen["points"], 11) << "all but the one that is under way";
  EXPECT_EQ(seen["hours"], 11) << "by hours too";
  EXPECT_EQ(seen["requests"], 0);
  EXPECT_EQ(seen["made"], 0) << "no element out of a model's words";
  ASSERT_EQ(seen["opened"].size(), 2u);
  for (const json& opened : seen["opened"]) {
    EXPECT_EQ(opened["open"], true);
    EXPECT_EQ(opened["curves"], 2) << "its own and the champion's";
    EXPECT_EQ(opened["added"], 1);
    EXPECT_NE(opened["text"].get<std::string>().find("candidate.diff"), std::string::npos);
  }
}

TEST_F(BrowserTest, TheFirstScreenSaysWhatIsReal) {
  std::string console;
  RunState state = night(12);
  const auto top = [&] {
    return look(page(state), false, 1200, console)["top"].get<std::string>();
  };
  const std::string plain = top();
  EXPECT_NE(plain.find("val_bpb 2.074300 \u2192 2.054300 (\u22120.020000, \u22120.96 %)"),
            std::string::npos)
      << plain;
  EXPECT_NE(plain.find("not verified yet"), std::string::npos) << plain;
  EXPECT_NE(plain.find("times the noise"), std::string::npos) << plain;
  EXPECT_NE(plain.find("#10 made 168 steps in its time, the baseline 71."), std::string::npos);

  state.verified = proof(state, 0.005, 4);
  EXPECT_NE(top().find("not proven"), std::string::npos);
  state.verified = proof(state, -0.005, 4);
  state.best_bpb = 2.05;  // of a tip that lost a change
  state.tested[state.at(0).candidate.commit].bpb = 2.1;
  state.tested[state.champion].bpb = 2.09;
  const std::string proven = top();
  EXPECT_EQ(proven.find("not "), std::string::npos) << proven;
  EXPECT_NE(proven.find("\u2192 2.050000 ("), std::string::npos) << proven;
  EXPECT_NE(proven.find("95 % interval \u22120.020000 to \u22120.005000"), std::string::npos);
  EXPECT_NE(proven.find("2.100000 \u2192 2.090000"), std::string::npos) << proven;
}

TEST_F(BrowserTest, BothColourSchemesAndAPhonesWidthFit) {
  std::string console;
  const std::string html = page(night(12));
  std::set<std::string> backgrounds;
  for (const bool dark : {false, true}) {
    const json seen = look(html, dark, 390, console);
    EXPECT_EQ(seen["width"], 390);
    EXPECT_EQ(console, "");
    EXPECT_EQ(seen["wide"], false) << "nothing to scroll sideways at " << seen["width"];
    EXPECT_GE(seen["letters"].get<double>(), 10);
    backgrounds.insert(seen["background"].get<std::string>());
  }
  EXPECT_EQ(backgrounds.size(), 2u);
}

TEST_F(BrowserTest, ARunOfAnyLengthOpensWithoutAnError) {
  std::string console;
  for (const int64_t count : {0, 1, 2, 1000}) {
    const RunState state = count == 0 ? RunState{} : night(count);
    ReportPage pages({dir_ / "t"});
    const double begun = wall_clock();
    pages.html(state, 1.8e9);
    const double read = wall_clock();
    const std::string html = pages.html(state, 1.8e9);
    const double again = wall_clock();
    EXPECT_LT(html.size(), 10u << 20);
    const json seen = look(html, false, 1200, console);
    EXPECT_EQ(console, "") << count;
    EXPECT_EQ(seen["rows"], count);
    std::cout << count << " experiments: " << html.size() / 1e6 << " MB, made in "
              << 1000 * (read - begun) << " ms, again in " << 1000 * (again - read)
              << " ms, open after " << seen["ready"] << " ms\n";
    EXPECT_LT(seen["ready"].get<double>(), 2000) << "milliseconds, for " << count << " experiments";
  }
}

}  // namespace
}  // namespace autoresearch
