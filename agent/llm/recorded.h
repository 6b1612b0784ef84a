// The replies of an earlier run, one after the other: a run without a model, for tests and for
// looking again at what a night did.
#pragma once

#include <vector>

#include "agent/llm/llm.h"
#include "common/files.h"

namespace autoresearch {

// Where the k-th reply (from 1) of an experiment is kept: reply.md, reply-2.md, ...
fs::path reply_path(const fs::path& experiment, int k);

// The first of these that is not there yet.
fs::path next_reply_path(const fs::path& experiment);

// `options.model` is the tag of the earlier run. Throws Error where it has no replies.
std::unique_ptr<Provider> recorded_provider(const ProviderOptions& options);

}  // namespace autoresearch
