#include "agent/llm/recorded.h"

#include <algorithm>

#include "common/error.h"

namespace autoresearch {
namespace {

// In the order in which they were given: experiments by number, each one's replies by theirs.
std::vector<fs::path> replies_of(const std::string& tag) {
  const fs::path experiments = data_dir() / "runs" / tag / "experiments";
  check(!tag.empty() && fs::is_directory(experiments),
        "no run '" + tag + "' to replay in " + experiments.parent_path().parent_path().string() +
            "; name the tag of an earlier run: --replay TAG");
  std::vector<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(experiments)) folders.push_back(entry.path());
  std::sort(folders.begin(), folders.end());
  std::vector<fs::path> replies;
  for (const fs::path& folder : folders) {
    for (int k = 1; fs::exists(reply_path(folder, k)); ++k)
      replies.push_back(reply_path(folder, k));
  }
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

fs::path reply_path(const fs::path& experiment, int k) {
  return experiment / (k == 1 ? "reply.md" : "reply-" + std::to_string(k) + ".md");
}

fs::path next_reply_path(const fs::path& experiment) {
  int k = 1;
  while (fs::exists(reply_path(experiment, k))) ++k;
  return reply_path(experiment, k);
}

std::unique_ptr<Provider> recorded_provider(const ProviderOptions& options) {
  return std::make_unique<RecordedProvider>(options.model);
}

}  // namespace autoresearch
