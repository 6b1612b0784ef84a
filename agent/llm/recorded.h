// The replies of an earlier run, one after the other: a run without a model, for tests, for the
// demo and for looking again at what a night did.
#pragma once

#include <vector>

#include "agent/llm/llm.h"
#include "common/files.h"

namespace autoresearch {

// `options.model` is the tag of the earlier run, or the path of its folder, which has a slash. As
// many replies as `options.given` counts under the provider's name are passed over: a run that goes
// on, goes on with the next one. Throws Error if the earlier run has no replies.
std::unique_ptr<Provider> recorded_provider(const ProviderOptions& options);

}  // namespace autoresearch
