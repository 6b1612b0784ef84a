// report.html: one file that shows a whole run, without a network, on a screen of any size or on
// paper. Its skeleton, style and script are page.html, page.css and page.js beside this file, and
// the run is in it as JSON, which the script turns into text nodes: whatever a model or a log
// holds, there is no way from it into markup. The charts are SVG that the script draws, about 150
// lines: points that are links, a step line and error bars are less code than the options that a
// chart library would want for them, and no library of 100 to 200 kB is in each report to be kept
// up to date.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "agent/lab/speed.h"
#include "agent/record/figures.h"
#include "common/run_folder.h"

namespace autoresearch {

// Makes the pages of one run. Remembers what it read of closed experiments, so that a page after
// one more experiment costs one more folder.
class ReportPage {
 public:
  explicit ReportPage(RunFolder run) : run_(std::move(run)) {}

  // `now`: seconds since 1970. A page of a run that has no end on record follows it: the browser
  // loads it again every half minute.
  std::string html(const RunState& state, double now);

 private:
  struct Detail {
    std::string key;   // what it was read from
    std::string json;  // in its script element
    std::optional<SpeedAndLearning> compared;
  };
  const Detail& detail(const RunState& state, int64_t n, size_t bytes);

  const RunFolder run_;
  std::vector<Detail> details_;  // by n
};

// The bytes of detail that one of so many experiments may have, so that a page of 1,000 stays below
// 10 MB: a power of two, since all are read again if it changes.
size_t detail_bytes(size_t experiments);

}  // namespace autoresearch
