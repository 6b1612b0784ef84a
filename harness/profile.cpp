#include "harness/profile.h"

#include <kineto/ActivityType.h>
#include <torch/csrc/autograd/profiler_kineto.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <string_view>

#include "common/log.h"

namespace autoresearch {
namespace {

namespace profiler = torch::autograd::profiler;
using Activities = std::set<profiler::ActivityType>;

void erase_all(std::string& text, std::string_view part) {
  for (size_t at; (at = text.find(part)) != std::string::npos;) text.erase(at, part.size());
}

// What a user wants of a name. The engine's own work is one thing, whichever node it is for; a
// node of an autograd function is named as ATen names its own; kernels lose what all of them say.
std::string readable(std::string name) {
  constexpr std::string_view kNode = "torch::autograd::CppNode<";
  if (name.starts_with("autograd::engine::evaluate_function: ")) return "autograd::engine";
  for (const char* noise : {"autoresearch::", "(anonymous namespace)::", "at::native::"})
    erase_all(name, noise);
  if (name.starts_with(kNode) && name.ends_with('>'))
    name = name.substr(kNode.size(), name.size() - kNode.size() - 1) + "Backward";
  if (name.starts_with("void ")) name.erase(0, 5);
  return name;
}

// What has room in a line of the table, and does it and train.json no harm.
std::string printable(std::string name) {
  constexpr size_t kMost = 67;
  for (char& c : name)
    if (c < ' ' || c > '~') c = '?';
  if (name.size() > kMost) name.replace(kMost - 3, std::string::npos, "...");
  return name;
}

// The time that is covered by spans, which are in the order of their beginnings.
uint64_t covered(const std::vector<Span>& spans) {
  uint64_t sum = 0, until = 0;
  for (const Span& span : spans) {
    sum += std::max(span.end, until) - std::max(span.begin, until);
    until = std::max(span.end, until);
  }
  return sum;
}

// Each span's time without the spans within it. They are in the order of their beginnings, an outer
// one before those within it.
std::vector<double> self_times(const std::vector<Span>& spans) {
  std::vector<double> self;
  std::map<uint64_t, std::vector<size_t>> open;  // on each lane, from the outermost on
  for (const Span& span : spans) {
    std::vector<size_t>& outer = open[span.lane];
    while (!outer.empty() && spans[outer.back()].end <= span.begin) outer.pop_back();
    if (!outer.empty())
      self[outer.back()] -=
          static_cast<double>(std::min(span.end, spans[outer.back()].end) - span.begin);
    outer.push_back(self.size());
    self.push_back(static_cast<double>(span.end - span.begin));
  }
  return self;
}

// One row a name, the longest first.
std::vector<Profile::Row> rows_of(const std::vector<Span>& spans, double steps) {
  const std::vector<double> self = self_times(spans);
  std::map<std::string, Profile::Row> by_name;
  for (size_t i = 0; i < spans.size(); ++i) {
    Profile::Row& row = by_name[readable(spans[i].name)];
    row.ms += self[i] / 1e6;
    row.calls += 1;
  }
  std::vector<Profile::Row> rows;
  for (auto& [name, row] : by_name) {
    row.name = printable(name);
    row.ms /= steps;
    row.calls /= steps;
    rows.push_back(row);
  }
  std::stable_sort(rows.begin(), rows.end(),
                   [](const auto& a, const auto& b) { return a.ms > b.ms; });
  return rows;
}

bool is_work_of_gpu(const profiler::KinetoEvent& event) {
  using libkineto::ActivityType;
  const auto type = static_cast<ActivityType>(event.activityType());
  return type == ActivityType::CONCURRENT_KERNEL || type == ActivityType::GPU_MEMCPY ||
         type == ActivityType::GPU_MEMSET;
}

std::vector<Span> spans_of(const profiler::ProfilerResult& result, bool on_gpu) {
  std::vector<Span> spans;
  for (const profiler::KinetoEvent& event : result.events()) {
    if (on_gpu ? !is_work_of_gpu(event) : event.deviceType() != at::kCPU || event.isAsync())
      continue;
    const uint64_t lane =
        on_gpu ? static_cast<uint64_t>(event.deviceResourceId()) : event.startThreadId();
    spans.push_back({event.name(), lane, event.startNs(), event.endNs()});
  }
  return spans;
}

Activities activities(bool on_gpu) {
  Activities result{profiler::ActivityType::CPU};
  if (on_gpu) result.insert(profiler::ActivityType::CUDA);
  return result;
}

}  // namespace

Profile summarize(std::vector<Span> spans, int64_t steps, double seconds, bool on_gpu) {
  std::sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end > b.end;
  });
  Profile profile;
  profile.steps = steps;
  profile.ms_per_step = 1000 * seconds / static_cast<double>(steps);
  profile.on_gpu = on_gpu;
  profile.rows = rows_of(spans, static_cast<double>(steps));
  Profile::Row others, idle;
  others.name = "(all others)";
  for (; profile.rows.size() > Profile::kMostRows - 2; profile.rows.pop_back()) {
    others.ms += profile.rows.back().ms;
    others.calls += profile.rows.back().calls;
  }
  idle.name = on_gpu ? "(idle: no kernel runs)" : "(outside of operators)";
  const double busy = static_cast<double>(covered(spans)) / 1e6 / static_cast<double>(steps);
  idle.ms = std::max(0.0, profile.ms_per_step - busy);
  profile.rows.push_back(others);
  profile.rows.push_back(idle);
  return profile;
}

std::string Profile::table() const {
  std::string text = format("profile: %lld step%s, %.4g ms each, by self time on the %s\n",
                            static_cast<long long>(steps), steps == 1 ? "" : "s", ms_per_step,
                            on_gpu ? "GPU" : "CPU");
  for (const Row& row : rows) {
    const std::string calls = row.calls > 0 ? format("%.1f x", row.calls) : "";
    text += format("%9.3f ms %5.1f %% %10s  %s\n", row.ms, percent(row), calls.c_str(),
                   row.name.c_str());
  }
  return text;
}

nlohmann::json Profile::json() const {
  nlohmann::json operators = nlohmann::json::array();
  for (const Row& row : rows)
    operators.push_back(
        {{"name", row.name}, {"ms", row.ms}, {"percent", percent(row)}, {"calls", row.calls}});
  return {{"steps", steps},
          {"ms_per_step", ms_per_step},
          {"on", on_gpu ? "GPU" : "CPU"},
          {"operators", operators}};
}

void Profiler::between_steps(int64_t steps_done, double progress) {
  if (running_ && (steps_done == first_ + kSteps || progress >= 1)) stop(steps_done);
  if (first_ > 0 || steps_done < 1 || progress >= 1) return;
  const double done = static_cast<double>(steps_done), left = done / progress - done;
  if (steps_done >= kFirst || left < kSteps + 0.5) start(steps_done);
}

void Profiler::start(int64_t steps_done) {
  first_ = steps_done;
  // On a machine without a GPU the profiler complains of that, even when it is not asked to look.
  if (!on_gpu_) setenv("KINETO_LOG_LEVEL", "5", 0);
  try {
    const profiler::ProfilerConfig config(profiler::ProfilerState::KINETO);
    profiler::prepareProfiler(config, activities(on_gpu_));
    profiler::enableProfiler(config, activities(on_gpu_));
    running_ = true;
  } catch (const std::exception& error) {
    failure_ = error.what();
  }
  started_ = std::chrono::steady_clock::now();
}

void Profiler::stop(int64_t steps_done) {
  if (!running_) return;
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - started_;
  running_ = false;
  try {
    const auto result = profiler::disableProfiler();
    const int64_t steps = steps_done - first_;
    if (steps < 1) return;
    const auto on_gpu = spans_of(*result, true);
    profile_ = on_gpu.empty() ? summarize(spans_of(*result, false), steps, seconds.count(), false)
                              : summarize(on_gpu, steps, seconds.count(), true);
  } catch (const std::exception& error) {
    failure_ = error.what();
  }
}

std::string Profiler::text() const {
  if (profile_) return profile_->table();
  if (!failure_.empty())
    return "profile: none, for the profiler failed: " + failure_.substr(0, failure_.find('\n')) +
           "\n";
  return "profile: nothing to profile, for the first step is left out and was the only one\n";
}

}  // namespace autoresearch
