// The recorded night that the demo replays (examples/first-night) fits to the train.cpp of today.

#include "agent/edit/edit.h"
#include "agent/lab/recipe.h"
#include "agent/llm/llm.h"
#include "agent/record/history.h"
#include "tests/support.h"

namespace autoresearch {
namespace {

const fs::path kNight = SOURCE_DIR "/examples/first-night";

constexpr const char* kAdvice =
    "\ntrain.cpp has changed, and this recorded reply no longer applies to it, on top of those "
    "before it. Adapt the reply's blocks to the train.cpp of today and leave its IDEA and WHY as "
    "they are; build/agent reply FILE --source FILE shows what comes of it.\n";

// train.cpp with the replies one on the other, and the places of those that do not apply.
std::string champion_of_the_night() {
  std::string source = read_file(SOURCE_DIR "/train.cpp");
  for (const ExperimentFolder& folder : RunFolder{kNight}.all_experiments()) {
    auto edit = apply_reply(source, read_file(folder.reply(1)), false, false);
    const auto* feedback = std::get_if<Feedback>(&edit);
    EXPECT_EQ(feedback, nullptr) << folder.reply(1).string() << ": " << feedback->text << kAdvice;
    if (!feedback) source = std::get<Edit>(std::move(edit)).source;
  }
  return source;
}

TEST(FirstNight, EveryRecordedReplyAppliesOnTopOfThoseBeforeIt) {
  EXPECT_EQ(RunFolder{kNight}.all_experiments().size(), 8u);
  champion_of_the_night();
}

using FirstNightFolder = FolderTest;

TEST_F(FirstNightFolder, TheLastChampionBuilds) {
  const Kit kit = Kit::open_or_create(BUILD_DIR, dir_ / "kits");
  const ExperimentFolder folder{dir_ / "0001"};
  file("0001/train.cpp", champion_of_the_night());
  const BuildResult built = kit.build(folder, /*sandboxed=*/false);
  EXPECT_TRUE(built.ok) << built.log << kAdvice;
}

}  // namespace
}  // namespace autoresearch
