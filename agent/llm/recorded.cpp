#include "agent/llm/recorded.h"

#include "common/error.h"
#include "common/run_folder.h"

namespace autoresearch {
namespace {

// In the order in which they were given: experiments by number, each one's replies by theirs.
std::vector<fs::path> replies_of(const std::string& tag) {
  const RunFolder run = run_folder(tag);
  check(!tag.empty() && fs::is_directory(run.experiments()),
        "no run '" + tag + "' to replay in " + run.path.parent_path().string() +
            "; name the tag of an earlier run: --replay TAG");
  std::vector<fs::path> replies;
  for (const ExperimentFolder& folder : run.all_experiments())
    for (int k = 1; fs::exists(folder.reply(k)); ++k) replies.push_back(folder.reply(k));
  check(!replies.empty(), "the run '" + tag + "' has no replies to replay");
  return replies;
}

class RecordedProvider : public Provider {
 public:
  explicit RecordedProvider(const std::string& tag) : tag_(tag), replies_(replies_of(tag)) {}

  std::string name() const override { return "replay:" + tag_; }

  Reply ask(const std::vector<Message>&) override {
    Reply reply;
    if (next_ < replies_.size()) {
      reply.text = read_file(replies_[next_++]);
    } else {
      reply = failed_reply(
          "all " + std::to_string(next_) + " replies of " + tag_ + " were replayed", true);
      reply.used_up = true;
    }
    reply.provider = name();
    return reply;
  }

 private:
  const std::string tag_;
  const std::vector<fs::path> replies_;
  size_t next_ = 0;
};

}  // namespace

std::unique_ptr<Provider> recorded_provider(const ProviderOptions& options) {
  return std::make_unique<RecordedProvider>(options.model);
}

}  // namespace autoresearch
