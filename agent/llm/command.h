// Any program as a model: the conversation on stdin, the reply on stdout. So command-line
// assistants work (docs/models.md says with which flags), and so does a script of the user's own.
// Each call runs in an empty folder of its own: an assistant that obeys a project's files or edits
// them finds none. Nobody knows what a call costs: it has no price, or that of "command", which can
// only be 0.
#pragma once

#include "agent/llm/llm.h"

namespace autoresearch {

std::unique_ptr<Provider> command_provider(const ProviderOptions& options);

}  // namespace autoresearch
