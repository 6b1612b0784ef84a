// Any program as a model: the conversation on stdin, the reply on stdout. So command-line
// assistants work ("claude -p", "codex exec -"), and so does a script of the person's own. Nobody
// knows what a call costs: it has no price, or that of "command", which can only be 0.
#pragma once

#include "agent/llm.h"

namespace autoresearch {

std::unique_ptr<Provider> command_provider(const ProviderOptions& options);

}  // namespace autoresearch
