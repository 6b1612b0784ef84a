#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/record_function.h>
#include <c10/util/Exception.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <deque>
#include <iostream>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "common/budget.h"
#include "common/error.h"
#include "common/files.h"
#include "common/limits.h"
#include "common/log.h"
#include "common/process.h"
#include "common/processor.h"
#include "common/progress.h"
#include "common/version.h"
#include "harness/device.h"
#include "harness/harness.h"
#include "harness/loader.h"
#include "harness/phase_clock.h"
#include "harness/profile.h"
#include "harness/record.h"
#include "harness/trace.h"
#include "kernels/fused_check.h"
#include "kernels/lack_of_memory.h"
#include "referee/causality.h"
#include "task/task.h"

namespace autoresearch {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

struct Options {
  std::string task = "demo", device = "auto", data;
  fs::path seal, keep, json;
  int64_t seed = 42, steps = 0, max_sealed_bytes = std::numeric_limits<int64_t>::max();
  int threads = training_threads();
  bool profile = false;
};

Device start_on(at::Device device) {
  use_device(device);
  return describe_device(device);
}

// What is written at the end of the run is tried at its start, not after the budget is spent.
void check_writable(const fs::path& file) {
  if (file.empty()) return;
  const fs::path folder = fs::absolute(file).parent_path();
  check(fs::is_directory(folder) && !fs::is_directory(file) && access(folder.c_str(), W_OK) == 0,
        "can't write " + file.string() + "; name a file in a folder that exists and is yours");
}

Options parse_options(int argc, char** argv) {
  Options options;
  CLI::App app("Trains one GPT on a prepared task for its fixed budget, then seals and scores it.");
  app.add_option("--task", options.task, "task that `prepare` made, by name or folder")
      ->capture_default_str();
  app.add_option("--device", options.device, "auto, cpu, cuda or cuda:N")->capture_default_str();
  app.add_option("--threads", options.threads, "threads that compute on a CPU")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  app.add_option("--seed", options.seed, "seed of all random numbers")->capture_default_str();
  app.add_option("--steps", options.steps, "train this many steps instead of the time budget")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40));
  CLI::Option* seal = app.add_option("--seal", options.seal,
                                     "write the sealed model to this file instead of scoring it");
  app.add_option("--keep", options.keep, "score the sealed model and write it to this file as well")
      ->excludes(seal);
  app.add_option("--json", options.json, "write the record of the run to this file");
  app.add_option("--max-sealed-bytes", options.max_sealed_bytes,
                 "refuse a model whose sealed file would be larger, before it is trained")
      ->check(CLI::Range(int64_t{1}, std::numeric_limits<int64_t>::max()))
      ->envname(kMaxSealedVariable);
  app.add_flag("--profile", options.profile,
               "print in which operators five steps spend their time; this slows them down");
  app.add_option("--data", options.data, "folder that holds the tasks");
  app.set_version_flag("--version", [] { return version_of("train"); });
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) std::exit(app.exit(error));
    throw Error(std::string(error.what()) + "; build/train --help lists what there is", kUsage);
  }
  for (const fs::path& file : {options.seal, options.keep, options.json}) check_writable(file);
  // All of the program looks tasks up by this variable.
  if (!options.data.empty()) setenv("AUTORESEARCH_DATA", options.data.c_str(), 1);
  return options;
}

// A key of the summary and of train.json.
std::string phase_name(std::string name) {
  constexpr size_t kMost = 32;
  name.resize(std::min(name.size(), kMost));
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
}

// The parent, if there is one that judges, takes the time itself: it is told when training begins
// and when it ends.
void tell_parent(char word) {
  const char* fd = std::getenv(kClockVariable);
  if (fd != nullptr) [[maybe_unused]]
    const ssize_t n = write(std::atoi(fd), &word, 1);
}

std::string message(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error))
    return "the harness or the C++ library could not allocate";
  const auto* atens = dynamic_cast<const c10::Error*>(&error);
  const std::string text = atens ? atens->what_without_backtrace() : error.what();
  return text.substr(0, text.find('\n'));
}

// Of the file that a model is sealed as, but for the names in its header.
int64_t bytes_of(const SealedModel& model) {
  size_t bytes = model.graph.size();
  for (const at::Tensor& tensor : model.tensors) bytes += tensor.nbytes();
  return static_cast<int64_t>(bytes);
}

}  // namespace

struct Run::Impl {
  Impl(Clock::time_point began, Options given, at::Device on)
      : started(began),
        options(std::move(given)),
        folder(task_dir(options.task)),
        info(load_task(folder)),
        device(start_on(on)),
        loader(folder, info, device.device),
        clock(device.device) {
    task = {info.name, info.vocab_size, info.seq_len, info.time_budget};
    if (options.seal.empty()) scorer();  // missed now, and not after the training
    at::set_num_threads(options.threads);
    at::manual_seed(static_cast<uint64_t>(options.seed));
    set_precision(device.device);
    tell_lack_of_memory();
    if (device.is_cuda()) expand_segments();
    const auto type = device.bfloat16 ? at::kBFloat16 : at::kFloat;
    record.fused = trusted_on(device.device, type).warning;  // found out now, not in step 0
    if (options.profile) profiler.emplace(device.is_cuda());
    record.task = info.name;
    record.device = device.name;
    record.seed = options.seed;
    record.peak_flops = device.peak_flops;
  }

  void check_model();
  double seconds() const { return seconds_since(started); }
  std::string attempt() const;
  double share_done() const;
  bool fits_another_step() const;
  void end_training();
  void read_losses(int64_t before);
  void report_step();
  void seal();
  static fs::path scorer();
  Score score_alone(const SealedModel& sealed) const;

  Clock::time_point started, first_step;
  Options options;
  fs::path folder;
  TaskInfo info;
  Device device;
  Loader loader;
  Task task;
  Record record;
  PhaseClock clock;
  std::optional<Profiler> profiler;  // with --profile
  Logits logits;
  std::unique_ptr<Progress> progress;

  std::vector<int64_t> micro_batches;  // rows, each that was tried
  int64_t step = -1;                   // before the first next_step()
  double elapsed = 0, last_step = 0;
  bool ended = false;
  struct Loss {
    int64_t step;
    at::Tensor value;  // on the host, perhaps still to be written by a GPU
  };
  std::deque<Loss> losses;  // not read yet
  double next_report = 0;   // share of the run at which the next status line is due
};

Run::Run(int argc, char** argv) {
  const Clock::time_point began = Clock::now();
  Options options = parse_options(argc, argv);
  const at::Device on = choose_device(options.device, cuda_status());
  try {
    impl_ = std::make_unique<Impl>(began, std::move(options), on);
  } catch (const std::exception& error) {
    if (!out_of_memory(error)) throw;
    throw Error("out of memory on " + on.str() +
                    " before there is a model; another process may hold its memory, end it or "
                    "choose another --device: " +
                    message(error),
                kOutOfMemory);
  }
  log_info(format("task %s, %s: T %lld, vocabulary %lld, budget %.0f s, seed %lld",
                  task().name.c_str(), impl_->device.name.c_str(),
                  static_cast<long long>(task().seq_len), static_cast<long long>(task().vocab_size),
                  task().time_budget, static_cast<long long>(impl_->options.seed)));
}

Run::~Run() = default;

const Task& Run::task() const { return impl_->task; }
const Device& Run::device() const { return impl_->device; }

void Run::describe(std::vector<Fact> facts) {
  for (auto& [key, value] : facts) {
    const auto* rows = std::get_if<int64_t>(&value);
    if (key == "micro_batch" && rows) impl_->micro_batches.push_back(*rows);
    std::visit([this, &key = key](auto& v) { impl_->record.facts[key] = std::move(v); }, value);
  }
}

// "in step 3, in micro-batches of 4, 2, 1 rows (depth 2, 0.3 M parameters, CPU of 25 GB)"
std::string Run::Impl::attempt() const {
  std::string text = step < 0           ? "before the first step"
                     : record.steps > 0 ? "after the last step"
                                        : format("in step %lld", static_cast<long long>(step));
  for (size_t i = 0; i < micro_batches.size(); ++i)
    text += (i == 0 ? ", in micro-batches of " : ", ") + std::to_string(micro_batches[i]);
  if (!micro_batches.empty()) text += " rows";
  return text + format(" (depth %lld, %.1f M parameters, %s of %.0f GB)",
                       static_cast<long long>(record.facts.value("depth", int64_t{0})),
                       record.facts.value("parameters", 0.0) / 1e6, device.name.c_str(),
                       device.memory_gb);
}

void Run::model(std::function<at::Tensor(at::Tensor ids)> logits) {
  check(impl_->step < 0, "Run::model must be called before the first step");
  impl_->logits = std::move(logits);
  impl_->check_model();
}

// Everything that the scorer will demand later is demanded now, on one row, before any budget is
// spent: the trace, the allow-list, the size, causality, and that the graph computes what the live
// code does.
void Run::Impl::check_model() {
  const Batch batch = loader.next(1);
  loader.rewind_step();
  const SealedModel sealed = trace(logits, 1, task.seq_len, task.vocab_size, device.device);
  const Graph graph(sealed);
  try {
    const int64_t bytes = bytes_of(sealed), most = options.max_sealed_bytes;
    check(bytes <= most, "the sealed model would have " + std::to_string(bytes) + " bytes; " +
                             std::to_string(most) + " are allowed");
    constexpr int kDraws = 8;
    probe_causality(graph, batch.inputs, kDraws);
    at::NoGradGuard no_grad;
    const at::Tensor live = logits(batch.inputs.clone()).to(at::kFloat);
    const double difference = (graph(batch.inputs) - live).abs().max().item<double>() /
                              (1 + live.abs().max().item<double>());
    const double allowed = device.is_cuda() ? 1e-2 : 1e-5;
    check(difference <= allowed,
          "the traced model and the live one differ by " + std::to_string(difference) +
              "; the function must do the same at every call and depend on ids alone");
  } catch (const Error& error) {
    throw Error(error.what(), kCannotSeal);
  }
}

bool Run::next_step() {
  Impl& run = *impl_;
  check(run.logits != nullptr, "Run::model must be called before the first step");
  // The end of a step waits for the one before. A profile has no use for two steps at a time.
  if (run.step >= 0) run.clock.end_step(run.record.phases);
  if (run.step < 0 || run.profiler || !run.clock.works()) synchronize(run.device.device);
  run.read_losses(run.step);
  if (run.step < 0) {
    run.first_step = Clock::now();
    run.record.startup_seconds = run.seconds();
    run.progress = std::make_unique<Progress>("training", 1, "of the budget");
    tell_parent(kBegins);
  }
  ++run.step;
  run.last_step = seconds_since(run.first_step) - run.elapsed;
  run.elapsed += run.last_step;
  if (run.profiler) run.profiler->between_steps(run.step, progress());
  run.clock.begin_step();
  run.loader.begin_step();
  run.report_step();
  if (progress() < 1 && run.fits_another_step()) return true;
  run.end_training();
  return false;
}

// A step that would probably end later than the parent allows is not begun. The first one says
// nothing of those to come: it pays for what they find ready.
bool Run::Impl::fits_another_step() const {
  const int pending = device.is_cuda() ? 2 : 1;  // a GPU has yet to do the last one as well
  return options.steps > 0 || step < 2 ||
         elapsed + pending * last_step <= longest_training(task.time_budget);
}

void Run::Impl::end_training() {
  if (std::exchange(ended, true)) return;
  synchronize(device.device);  // what the device has yet to do counts
  elapsed = seconds_since(first_step);
  tell_parent(kEnds);
}

void Run::Impl::report_step() {
  const double share = share_done();
  const auto loss = record.curve.latest();
  if (progress) progress->update(share, loss ? format("loss %.3f", *loss) : "");
  if (isatty(STDERR_FILENO) || share < next_report || step == 0 || !loss) return;
  next_report = std::floor(share * 10 + 1) / 10;
  log_info(format("%3.0f %%  step %lld  %.1f s  loss %.4f", 100 * share,
                  static_cast<long long>(step), elapsed, *loss));
}

Batch Run::batch(int64_t rows) {
  check(rows > 0, "Run::batch needs at least one row");
  const std::string interrupted = impl_->clock.current();
  phase("loader_wait");
  Batch batch = [&] {
    RECORD_FUNCTION("loader_wait", {});
    return impl_->loader.next(rows);
  }();
  phase(interrupted.c_str());
  impl_->record.tokens += rows * task().seq_len;
  impl_->record.epoch = batch.epoch;
  return batch;
}

void Run::rewind_step() { impl_->record.tokens -= impl_->loader.rewind_step() * task().seq_len; }

void Run::phase(const char* name) {
  if (impl_->step >= 0) impl_->clock.enter(phase_name(name));
}

double Run::Impl::share_done() const {
  if (step < 0) return 0;
  const double share = options.steps
                           ? static_cast<double>(step) / static_cast<double>(options.steps)
                           : elapsed / task.time_budget;
  return std::min(share, 1.0);
}

double Run::progress() const { return impl_->share_done(); }

int64_t Run::step() const { return std::max<int64_t>(impl_->step, 0); }

void Run::log_loss(at::Tensor mean_loss) {
  // From a GPU into pinned memory, behind what the step has yet to do there.
  impl_->losses.push_back({impl_->step, mean_loss.detach().to(at::kCPU, /*non_blocking=*/true)});
}

// Of steps before `before`, which are done.
void Run::Impl::read_losses(int64_t before) {
  while (!losses.empty() && losses.front().step < before) {
    const int64_t at = losses.front().step;
    const auto loss = losses.front().value.item<double>();
    losses.pop_front();
    if (!(loss <= kMostLoss))
      throw Error(
          format("diverged: the loss is %.1f at step %lld", loss, static_cast<long long>(at)),
          kDiverged);
    // On a CPU `elapsed` is still the end of that step; a GPU has ended it just now.
    record.curve.add(at, device.is_cuda() ? seconds_since(first_step) : elapsed, loss);
  }
}

void Run::Impl::seal() {
  const int64_t rows = scoring_rows(device, task.seq_len, task.vocab_size);
  const SealedModel sealed = trace(logits, rows, task.seq_len, task.vocab_size, device.device);
  if (!options.seal.empty()) return save_sealed(sealed, options.seal);
  if (!options.keep.empty()) save_sealed(sealed, options.keep);
  record.score = score_alone(sealed);
}

// The program that scores a run by hand: beside this one, or above the folder of tests.
fs::path Run::Impl::scorer() {
  const fs::path folder = program_folder();
  for (const fs::path& place : {folder, folder.parent_path()})
    if (fs::is_regular_file(place / "score")) return place / "score";
  throw Error("there is no " + (folder / "score").string() +
              " to score the model with; build it: cmake --build build, or hand the model over "
              "with --seal FILE");
}

// Of a run by hand: another process scores, as it does in the loop.
Score Run::Impl::score_alone(const SealedModel& sealed) const {
  char name[] = "/tmp/autoresearch-XXXXXX";
  check(mkdtemp(name) != nullptr, "can't make a folder in /tmp for the sealed model");
  struct Remove {
    fs::path folder;
    ~Remove() {
      std::error_code ignored;
      fs::remove_all(folder, ignored);
    }
  } remove{name};
  const fs::path model = remove.folder / "model.safetensors";
  save_sealed(sealed, model);
  Progress bar("scoring", 0, "s");  // how long it takes is not known
  const Exit exit =
      autoresearch::run({.argv = {scorer().string(), model.string(), "--task", folder.string(),
                                  "--device", device.device.str(), "--json", "-"},
                         .env = scrubbed_environment(),
                         .limit = 24 * 3600,
                         .dies_with_caller = true,
                         .tick = [&](double seconds) { bar.update(seconds); }});
  const size_t json = exit.output.rfind("\n{") + 1;  // 0 if it is the first line
  const size_t error = exit.output.rfind("score: error: ");
  check(exit.code == 0,
        error == std::string::npos ? "the scorer ended without a word" : exit.output.substr(error));
  if (json > 0) log_info(exit.output.substr(0, json - 1));  // a warning
  const auto score = nlohmann::json::parse(exit.output.substr(json));
  return {.bpb = score.at("val_bpb"), .bpb_upstream = score.at("val_bpb_upstream")};
}

int Run::finish() {
  Impl& run = *impl_;
  check(run.step > 0, "no step was trained; the budget must allow at least one");
  run.end_training();  // of a program that left before the end
  run.clock.finish(run.record.phases);
  run.read_losses(run.step + 1);
  run.progress.reset();
  if (run.profiler) {
    run.profiler->stop(run.step);  // it still runs if the program leaves before the end
    run.record.profile = run.profiler->profile();
  }
  run.record.steps = run.step;
  run.record.training_seconds = run.elapsed;
  run.record.peak_memory_bytes = peak_memory(run.device.device);
  run.seal();
  run.record.total_seconds = run.seconds();
  std::cout << run.record.summary() << (run.profiler ? run.profiler->text() : "") << std::flush;
  if (!run.options.json.empty()) write_file(run.options.json, run.record.json().dump(1) + "\n");
  return kDone;
}

bool Run::out_of_memory(const std::exception& error) { return is_lack_of_memory(error); }

int run_main(int argc, char** argv, int (*program)(Run&)) {
  set_up_log("train");
  warn_of_processor();
  keep_memory();
  std::unique_ptr<Run> run;
  try {
    run = std::make_unique<Run>(argc, argv);
    return program(*run);
  } catch (const std::exception& error) {
    std::cerr << "train: error: ";
    if (run && Run::out_of_memory(error)) {
      std::cerr << "out of memory " << run->impl_->attempt()
                << "; use fewer layers, less width or smaller micro-batches, or free the device: "
                << message(error) << "\n";
      return kOutOfMemory;
    }
    std::cerr << message(error) << "\n";
    const auto* ours = dynamic_cast<const Error*>(&error);
    return ours ? ours->code : kError;
  }
}

}  // namespace autoresearch
