// Asks a model one question as the agent does, and says what came of it: whether a server or an
// assistant can be used, before a night depends on it. tests/field/endpoints.py runs it.
//
//   build/bench/ask --model ID --base-url http://localhost:8080/v1 [the agent's other model
//   options]
//
// The model is introduced first, then asked for an edit of train.cpp with a prompt of --chars; one
// that is too long for it is shortened by a quarter, as the loop would. What the chain says of the
// model goes to stderr; the last line on stdout is a JSON object with `idea` (of an edit that can
// be read), `said` (the reply's beginning), `problem`, `note`, `asked` and `seconds`.

#include <CLI/CLI.hpp>
#include <iostream>
#include <nlohmann/json.hpp>
#include <variant>

#include "agent/edit/reply.h"
#include "agent/llm/models.h"
#include "common/error.h"
#include "common/files.h"
#include "common/log.h"
#include "common/text.h"

namespace autoresearch {
namespace {

std::string question(size_t chars) {
  std::string text = read_file(fs::path(SOURCE_DIR) / "train.cpp");
  while (text.size() < chars) text += "// A line that only makes the prompt longer.\n";
  text.resize(chars);
  return "Propose one small change of this program.\n\n" + text + "\n\nAnswer in this format:\n\n" +
         kReplyFormat;
}

nlohmann::json outcome(const ModelOptions& options, size_t chars) {
  const auto models = make_models(options, {});
  check(models != nullptr, "no model is named; add --model ID or --command CMD");
  models->introduce();
  Reply reply;
  int asked = 0;
  do {
    if (asked > 0) chars -= chars / 4;
    reply = models->proposers().ask(
        {{"system", "You improve a training program.", true}, {"user", question(chars)}});
    ++asked;
  } while (reply.too_long && chars > 2000);
  const auto read = parse_reply(reply.text, reply.truncated, /*allow_whole_file=*/false);
  const auto* proposal = std::get_if<Proposal>(&read);
  return {{"idea", proposal ? proposal->idea : ""},
          {"said", first_chars(one_line(reply.text, 200), 200)},
          {"problem", reply.problem},
          {"note", reply.note},
          {"wait", reply.wait},
          {"asked", asked},
          {"seconds", reply.seconds}};
}

int main_program(int argc, char** argv) {
  ModelOptions options;
  size_t chars = 40'000;
  CLI::App app("Asks a model one question as the agent does.");
  add_model_options(app, options);
  app.add_option("--chars", chars, "bytes of the prompt")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  nlohmann::json result;
  try {
    result = outcome(options, chars);
  } catch (const Error& error) {
    result = {{"idea", ""}, {"problem", error.what()}, {"note", ""}, {"wait", 0}};
  }
  std::cout << result.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << "\n";
  return result.at("idea") == "" ? kError : kDone;
}

}  // namespace
}  // namespace autoresearch

int main(int argc, char** argv) {
  autoresearch::set_up_log("ask");
  return autoresearch::main_program(argc, argv);
}
