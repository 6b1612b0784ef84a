// score: the referee. Bits per byte of a sealed model on held-out text, and text from it.
//
//   build/score MODEL [--task T] [--split val|test] [--json FILE]
//   build/score sample MODEL [--prompt TEXT]
//
// This process reads nothing of the model but what its runners answer: `score runner MODEL` makes
// them (referee/runner.h), which nobody types.

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <regex>

#include "common/failure.h"
#include "common/log.h"
#include "common/process.h"
#include "common/processor.h"
#include "common/progress.h"
#include "common/sandbox.h"
#include "common/text.h"
#include "common/version.h"
#include "referee/runner.h"
#include "referee/sample.h"
#include "referee/score.h"
#include "task/task.h"
#include "task/tokenizer.h"

namespace autoresearch {
namespace {

struct Options {
  std::string model, task, json, sandbox = "auto", probe = "light";
  std::string prompt;
  bool keeps_logits = false;
  double full_below = NAN;
  ScoreOptions score;
  SampleOptions sample;
};

// "auto" takes the strongest sandbox that works, or does without one; it says so if that is not
// bubblewrap, and why.
bool use_sandbox(const std::string& wanted) {
  if (wanted == "off") return false;
  const auto problem = choose_sandbox(wanted);
  if (!problem) return true;
  check(wanted == "auto", *problem);
  const bool weaker = !choose_sandbox("landlock");
  log_warning((weaker ? "the model runs in the weaker sandbox of Landlock: "
                      : "the model runs without a sandbox: ") +
              *problem);
  return weaker;
}

fs::path own_program() { return fs::read_symlink("/proc/self/exe"); }

void check_model(const std::string& model) {
  check(fs::exists(model),
        "no sealed model at " + model + "; make one: build/train --seal " + model);
}

fs::path find_task(const std::string& name) { return task_dir(name.empty() ? only_task() : name); }

// Throws Error if a file can't be written to: before a score is computed, not after.
void check_writable(const fs::path& file) {
  const fs::path folder = file.has_parent_path() ? file.parent_path() : fs::path(".");
  const bool writable = access(folder.c_str(), W_OK | X_OK) == 0;
  check(writable && !fs::is_directory(file),
        "can't write " + file.string() + ": " +
            (writable ? "it is a folder" : std::strerror(errno)) + "; give --json another path");
}

void print_score(const Score& score, const std::string& split) {
  const auto line = [](const std::string& key, const char* pattern, auto value) {
    std::printf("%-18s", (key + ":").c_str());
    std::printf(pattern, value);
    std::printf("\n");
  };
  std::printf("---\n");
  line(split + "_bpb", "%.6f", score.bpb);
  line(split + "_bpb_upstream", "%.6f", score.bpb_upstream);
  line("nats_first_32", "%.4f", score.nats_first);
  line("nats_last_32", "%.4f", score.nats_last);
  line("rows", "%lld", static_cast<long long>(score.rows));
  line("tokens", "%lld", static_cast<long long>(score.tokens));
  line("bytes", "%lld", static_cast<long long>(score.bytes));
  line("bytes_upstream", "%lld", static_cast<long long>(score.bytes_upstream));
  line("probe_cuts", "%lld", static_cast<long long>(score.cuts));
  line("score_seconds", "%.1f", score.seconds);
}

void score_command(Options options) {
  const fs::path dir = find_task(options.task);
  check_model(options.model);
  if (!options.json.empty() && options.json != "-") check_writable(options.json);
  options.score.program = own_program();
  options.score.sandboxed = use_sandbox(options.sandbox);
  options.score.full = options.probe == "full";
  if (!std::isnan(options.full_below)) options.score.full_below = options.full_below;
  const Score result = score(options.model, dir, options.score);
  const std::string& split = options.score.split;
  const nlohmann::ordered_json json = {{split + "_bpb", result.bpb},
                                       {split + "_bpb_upstream", result.bpb_upstream},
                                       {"nats_first_32", result.nats_first},
                                       {"nats_last_32", result.nats_last},
                                       {"rows", result.rows},
                                       {"tokens", result.tokens},
                                       {"bytes", result.bytes},
                                       {"bytes_upstream", result.bytes_upstream},
                                       {"probe_cuts", result.cuts},
                                       {"score_seconds", result.seconds}};
  if (options.json == "-") {  // for programs, which read stdout as it is
    std::printf("%s\n", json.dump().c_str());
    return;
  }
  print_score(result, split);
  if (!options.json.empty()) write_file(options.json, json.dump(2) + "\n");
}

void sample_command(const Options& options) {
  if (std::isnan(options.sample.temperature))  // which CLI::Range lets pass
    throw Error("--temperature must be a number from 0 to 100, such as 0.8", kUsage);
  const Tokenizer tokenizer = Tokenizer::load(find_task(options.task) / "tokenizer.tiktoken");
  check_model(options.model);
  const auto nursery =
      std::make_shared<Nursery>(RunnerOptions{.model = fs::absolute(options.model),
                                              .program = own_program(),
                                              .device = options.score.device,
                                              .sandboxed = use_sandbox(options.sandbox)});
  Runner runner(nursery);
  const Runner::Shape shape = runner.shape();
  check(shape.seq_len == load_task(find_task(options.task)).seq_len,
        options.model + " has rows of " + std::to_string(shape.seq_len) +
            " tokens, the task others; give the --task that it was trained on");
  check(shape.vocab_size == tokenizer.vocab_size(),
        options.model + " has a vocabulary of " + std::to_string(shape.vocab_size) +
            ", the task one of " + std::to_string(tokenizer.vocab_size()) +
            "; give the --task that it was trained on");
  runner.share_memory();
  std::vector<uint16_t> prompt{static_cast<uint16_t>(tokenizer.bos())};
  tokenizer.encode(options.prompt, prompt);
  const auto logits = [&](const at::Tensor& ids) {
    const int64_t* from = ids.const_data_ptr<int64_t>();
    runner.begin(std::vector<uint16_t>(from, from + ids.numel()));
    runner.finish();
    std::vector<at::Tensor> rows;
    for (int64_t place = 0; place < shape.rows; place++) rows.push_back(runner.logits(place));
    return at::stack(rows);
  };
  const int64_t batches = (options.sample.samples + shape.rows - 1) / shape.rows;
  std::vector<std::vector<uint16_t>> samples;
  {
    Progress progress("sampling ", static_cast<double>(batches * options.sample.tokens), "tokens");
    samples = sample(logits, shape.rows, shape.seq_len, prompt, tokenizer.bos(), options.sample,
                     [&](int64_t steps) { progress.update(static_cast<double>(steps)); });
  }
  for (size_t i = 0; i < samples.size(); ++i) {
    std::printf("--- sample %zu\n", i + 1);
    const std::string said = options.prompt + tokenizer.decode(samples[i]);
    // A champion's text could move a terminal's cursor or set its clipboard. Into a file or a pipe
    // it goes as it is.
    const std::string text = isatty(STDOUT_FILENO) ? plain_text(said) : said;
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::printf("\n");
  }
}

// ------------------------------------------------------------------------------------------------
// The command line

void add_common(CLI::App* app, Options& options) {
  app->add_option("MODEL", options.model, "sealed model")->required();
  app->add_option("--task", options.task, "name of the task (default: the only one)");
  app->add_option_function<std::string>(
      "--data", [](const std::string& dir) { setenv("AUTORESEARCH_DATA", dir.c_str(), 1); },
      "folder for all data");
  app->add_option("--device", options.score.device,
                  "auto (the model's own kind), cpu, cuda or cuda:N")
      ->check([](const std::string& device) {
        const bool known = std::regex_match(device, std::regex("auto|cpu|cuda(:[0-9]{1,2})?"));
        return known ? "" : "use auto, cpu, cuda or cuda:N";
      })
      ->capture_default_str();
  app->add_option("--sandbox", options.sandbox,
                  "sandbox of the processes that run the model: auto, on, landlock or off")
      ->check(CLI::IsMember({"auto", "on", "landlock", "off"}))
      ->capture_default_str();
}

void add_score(CLI::App* app, Options& options) {
  add_common(app, options);
  app->add_option("--split", options.score.split, "val or test")
      ->check(CLI::IsMember({"val", "test"}))
      ->capture_default_str();
  app->add_option("--probe", options.probe, "how thoroughly to look for leaks: light or full")
      ->check(CLI::IsMember({"light", "full"}))
      ->capture_default_str();
  app->add_option("--full-below", options.full_below,
                  "use the full probe if the score is below this, the light one otherwise");
  app->add_option("--json", options.json,
                  "write the score to this file as JSON; - prints only the JSON");
  app->add_flag("--keep-logits", options.score.keeps_logits)->group("");
}

void add_sample(CLI::App* app, Options& options) {
  add_common(app, options);
  SampleOptions& sample = options.sample;
  app->add_option("--prompt", options.prompt, "text that the samples continue");
  app->add_option("--samples", sample.samples, "how many samples")->check(CLI::Range(1, 10000));
  app->add_option("--tokens", sample.tokens, "most tokens of each sample")
      ->check(CLI::Range(1, 1 << 20));
  app->add_option("--temperature", sample.temperature, "randomness; 0: always the likeliest token")
      ->check(CLI::Range(0.0, 100.0));
  app->add_option("--top-k", sample.top_k, "draw among this many likeliest tokens; 0: all")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 20));
  app->add_option("--seed", sample.seed, "the same seed gives the same text");
  for (CLI::Option* option : app->get_options()) option->capture_default_str();
}

int run_program(int argc, char** argv) {
  const std::string first = argc > 1 ? argv[1] : "";
  Options options;
  CLI::App app{first == "sample"
                   ? "Prints text from a sealed model."
                   : "Prints bits per byte of a sealed model. `score sample MODEL` prints "
                     "text from it."};
  app.name(first == "sample" ? "score sample" : "score");
  app.set_version_flag("--version", [] { return version_of("score"); });
  if (first == "sample") {
    add_sample(&app, options);
  } else {
    add_score(&app, options);
  }
  // The first word chooses the command; what follows is parsed as if it stood alone.
  const int skipped = first == "sample" || first == "runner" ? 1 : 0;
  try {
    app.parse(argc - skipped, argv + skipped);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() != 0)
      throw Error(std::string(e.what()) + "; build/score --help lists what there is", kUsage);
    return app.exit(e);
  }
  if (first == "runner")
    return nursery_main(options.model, options.score.device, options.score.keeps_logits);
  first == "sample" ? sample_command(options) : score_command(options);
  const bool flushed = std::fflush(stdout) == 0;
  check(flushed && !std::ferror(stdout),
        std::string("can't write the output: ") + std::strerror(errno != 0 ? errno : EIO));
  return kDone;
}

}  // namespace
}  // namespace autoresearch

int main(int argc, char** argv) try {
  autoresearch::set_up_log("score");
  if (argc < 2 || std::strcmp(argv[1], "runner") != 0) autoresearch::warn_of_processor();
  return autoresearch::run_program(argc, argv);
} catch (const autoresearch::Error& e) {
  std::fprintf(stderr, "score: error: %s\n", e.what());
  // Why a model can't be sealed matters to train; here it is void, an error like others.
  return e.code == autoresearch::kCannotSeal ? autoresearch::kError : e.code;
} catch (const std::exception& e) {
  std::fprintf(stderr, "score: error: %s\n", autoresearch::failure_in_words(e).c_str());
  return autoresearch::kError;
}
