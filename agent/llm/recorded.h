// The replies of an earlier run, one after the other: a run without a model, for tests and for
// looking again at what a night did.
#pragma once

#include <vector>

#include "agent/llm/llm.h"
#include "common/files.h"

namespace autoresearch {

// `options.model` is the tag of the earlier run. Throws Error where it has no replies.
std::unique_ptr<Provider> recorded_provider(const ProviderOptions& options);

}  // namespace autoresearch
