#include <fmt/format.h>

#include "agent/llm/llm.h"
#include "common/error.h"
#include "common/run_folder.h"

namespace autoresearch {
namespace {

RunFolder earlier_run(const std::string& named) {
  const bool is_path = named.find('/') != std::string::npos;
  const RunFolder run = is_path ? RunFolder{named} : run_folder(named);
  const fs::path where = is_path ? fs::current_path() : run.path.parent_path();
  check(!named.empty() && fs::is_directory(run.experiments()),
        fmt::format("no run '{}' to replay in {}; name the tag of an earlier run, or its folder: "
                    "--replay TAG",
                    named, where.native()));
  return {fs::canonical(run.path)};
}

// In the order in which they were given: experiments by number, each one's replies by theirs.
std::vector<fs::path> replies_of(const RunFolder& run) {
  std::vector<fs::path> replies;
  for (const ExperimentFolder& folder : run.all_experiments())
    for (int k = 1; fs::exists(folder.reply(k)); ++k) replies.push_back(folder.reply(k));
  check(!replies.empty(), "the run " + run.path.string() + " has no replies to replay");
  return replies;
}

class RecordedProvider : public Provider {
 public:
  explicit RecordedProvider(const ProviderOptions& options)
      : run_(earlier_run(options.model)), replies_(replies_of(run_)) {
    const auto given = options.given.find(name());
    if (given != options.given.end()) next_ = static_cast<size_t>(given->second);
  }

  std::string name() const override { return kReplay + run_.path.filename().string(); }

  Reply ask(const std::vector<Message>&) override {
    Reply reply;
    if (next_ < replies_.size()) {
      reply.text = read_file(replies_[next_++]);
    } else {
      reply =
          failed_reply(fmt::format("all {} recorded replies were replayed", replies_.size()), true);
      reply.used_up = true;
    }
    reply.provider = name();
    return reply;
  }

 private:
  const RunFolder run_;
  const std::vector<fs::path> replies_;
  size_t next_ = 0;
};

}  // namespace

std::unique_ptr<Provider> recorded_provider(const ProviderOptions& options) {
  return std::make_unique<RecordedProvider>(options);
}

}  // namespace autoresearch
