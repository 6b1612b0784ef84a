#include "agent/llm/llm.h"

#include <fmt/ranges.h>

#include <variant>

#include "agent/edit/reply.h"
#include "agent/edit/thoughts.h"
#include "agent/llm/endpoint.h"
#include "common/error.h"
#include "common/text.h"

namespace autoresearch {

std::unique_ptr<Provider> make_provider(const ProviderOptions& options) {
  if (options.kind == "command") return command_provider(options);
  if (options.kind == "replay") return recorded_provider(options);
  auto wire = make_wire(options.kind);
  check(wire != nullptr, fmt::format("unknown provider '{}'; use one of {}, command, replay",
                                     options.kind, fmt::join(wire_kinds(), ", ")));
  return std::make_unique<Endpoint>(options, std::move(wire));
}

bool is_whole_edit(const std::string& text) {
  return std::holds_alternative<Proposal>(
      parse_reply(text, /*truncated=*/false, /*allow_whole_file=*/false));
}

std::string reply_in(const std::string& printed) {
  const CutText cut = cut_thoughts(valid_utf8(printed));
  const bool answered = !trim(cut.answer).empty();
  return answered || !is_whole_edit(cut.unclosed) ? cut.answer : cut.unclosed;
}

Reply failed_reply(const std::string& problem, bool fatal) {
  Reply reply;
  reply.problem = problem;
  reply.fatal = fatal;
  return reply;
}

}  // namespace autoresearch
