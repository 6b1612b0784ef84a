// Runs the real program as a user would: on a small corpus from end to end, and on bad input.

#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <random>
#include <thread>

#include "common/nvidia.h"
#include "tests/prepare_program.h"

namespace autoresearch {
namespace {

class PrepareTest : public PrepareProgramTest {
 protected:
  PrepareTest() { fs::create_directories(dir_ / "corpus"); }

  // Expects failure with exactly one line on stderr that holds all of `parts`, and no task after
  // it.
  void expect_error(const std::string& arguments, const std::vector<std::string>& parts,
                    int code = 1) const {
    const Output result = prepare(arguments);
    EXPECT_EQ(result.code, code) << arguments << "\n" << result.err;
    EXPECT_EQ(result.err.find("prepare: error: "), 0u) << result.err;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    for (const std::string& part : parts) {
      EXPECT_NE(result.err.find(part), std::string::npos) << "no " << part << " in " << result.err;
    }
    EXPECT_EQ(entries(), std::vector<std::string>{}) << arguments;
  }

  // Expects failure with one line that holds all of `parts`, and the task as it was.
  void expect_refusal(const std::string& arguments, const std::vector<std::string>& parts,
                      int code = 1) const {
    const auto before = entries();
    const Output result = prepare(arguments);
    EXPECT_EQ(result.code, code) << arguments;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    for (const std::string& part : parts) {
      EXPECT_NE(result.err.find(part), std::string::npos) << "no " << part << " in " << result.err;
    }
    EXPECT_EQ(entries(), before);
  }

  // Forty documents of some 3 KB, no two alike.
  void write_corpus(int documents = 40) const {
    for (int i = 0; i < documents; ++i) {
      std::string text = "Document " + std::to_string(i) + "\n";
      for (int j = 0; text.size() < 3000; ++j) {
        text += "the quick brown fox number " + std::to_string(i * 7919 + j * j) + " jumps over\n";
      }
      write_file(dir_ / "corpus" / (std::to_string(i) + ".txt"), text);
    }
  }

  nlohmann::json task_json(const std::string& task = "corpus") const {
    return PrepareProgramTest::task_json(task);
  }
};

const std::vector<std::string> kOneTask = {".corpus.lock", "corpus"};

constexpr char kSmall[] = "--source corpus --vocab 300 --seq-len 32 --eval-tokens 320 ";

TEST_F(PrepareTest, MakesAWholeTaskFromAFolder) {
  write_corpus();
  const Output result = prepare(std::string(kSmall) + "--time-budget 5");
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_NE(result.out.find("Done. Next: build/train --task corpus"), std::string::npos);
  EXPECT_EQ(entries(), kOneTask);
  const nlohmann::json json = task_json();
  EXPECT_EQ(json["vocab_size"], 300);
  EXPECT_EQ(json["bos"], 296);
  EXPECT_EQ(json["time_budget"], 5);
  EXPECT_EQ(json["val"]["rows"], 10);
  EXPECT_EQ(json["test"]["rows"], 10);
  const int64_t documents = json["train"]["documents"].get<int64_t>() +
                            json["val"]["documents"].get<int64_t>() +
                            json["test"]["documents"].get<int64_t>();
  EXPECT_EQ(documents, 40);
  EXPECT_EQ(fs::file_size(data() / "corpus" / "heldout" / "val.bin"), 10u * 33 * 2);
  EXPECT_EQ(json["tokenizer_sha256"], sha256_of_file(data() / "corpus" / "tokenizer.tiktoken"));
}

TEST_F(PrepareTest, TheResultDependsOnNeitherThreadsNorNames) {
  write_corpus();
  ASSERT_EQ(prepare(std::string(kSmall) + "--task one --workers 1").code, 0);
  fs::create_directories(dir_ / "moved");
  for (int i = 0; i < 40; ++i) {
    fs::rename(dir_ / "corpus" / (std::to_string(i) + ".txt"),
               dir_ / "moved" / (std::to_string(100 - i) + ".md"));
  }
  ASSERT_EQ(prepare("--source moved --vocab 300 --seq-len 32 --eval-tokens 320 --task two "
                    "--workers 4 --data " +
                    data().string())
                .code,
            0);
  for (const std::string file :
       {"tokenizer.tiktoken", "train/00000.bin", "heldout/val.bin", "heldout/test.bin"}) {
    EXPECT_EQ(read_file(data() / "one" / file), read_file(data() / "two" / file)) << file;
  }
}

TEST_F(PrepareTest, NoDocumentIsInTwoSplits) {
  for (int i = 0; i < 60; ++i) {  // each of one passage with a word of its own
    write_file(dir_ / "corpus" / (std::to_string(i) + ".txt"),
               "only here: <" + std::to_string(i) + "> and not in another document");
  }
  ASSERT_EQ(prepare("--source corpus --vocab 260 --seq-len 64 --eval-tokens 128").code, 0);
  const auto text_of = [&](const std::string& file) {
    return prepare("decode --binary", read_file(data() / "corpus" / file)).out;
  };
  const std::string train = text_of("train/00000.bin"), val = text_of("heldout/val.bin"),
                    test = text_of("heldout/test.bin");
  int held_out = 0;
  for (int i = 0; i < 60; ++i) {
    const std::string mark = "<" + std::to_string(i) + ">";
    const int places = (train.find(mark) != std::string::npos) +
                       (val.find(mark) != std::string::npos) +
                       (test.find(mark) != std::string::npos);
    EXPECT_LE(places, 1) << mark;
    held_out += train.find(mark) == std::string::npos;
  }
  EXPECT_GE(held_out, 2);
  EXPECT_LE(held_out, 12);
}

TEST_F(PrepareTest, ASingleBookIsEnough) {
  std::string book;
  for (int i = 0; book.size() < 300'000; ++i) {
    book += "chapter line " + std::to_string(i * i) + " of one long story\n";
  }
  write_file(dir_ / "book.txt", book);
  const Output result = prepare("--source book.txt --vocab 300 --seq-len 256");
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_NE(result.out.find("rows and test"), std::string::npos) << result.out;
  const nlohmann::json json = task_json("book");
  EXPECT_GE(json["val"]["rows"], 10);
  const double share = json["val"]["tokens"].get<double>() / json["train"]["tokens"].get<double>();
  EXPECT_LT(share, 0.08);
}

TEST_F(PrepareTest, EncodedTextDecodesToItself) {
  write_corpus();
  ASSERT_EQ(prepare(kSmall).code, 0);
  const std::string text("the quick \xff br\u00f6wn\0 fox\n", 23);
  const Output ids = prepare("encode --task corpus", text);
  EXPECT_EQ(ids.out.find_first_not_of("0123456789 \n"), std::string::npos) << ids.out;
  EXPECT_EQ(prepare("decode", ids.out).out, text);
  const Output binary = prepare("encode --binary", text);
  EXPECT_EQ(prepare("decode --binary", binary.out).out, text);
  EXPECT_LT(binary.out.size(), 2 * text.size());
  EXPECT_NE(prepare("decode", "12 twelve").err.find("\"twelve\" is no token id"),
            std::string::npos);
  EXPECT_NE(prepare("decode", "300").err.find("out of range"), std::string::npos);
  EXPECT_EQ(prepare("decode", "65836").code, 1);
  EXPECT_NE(prepare("decode --binary", "abc").err.find("within an id"), std::string::npos);
}

TEST_F(PrepareTest, InfoShowsSizesTokensAndText) {
  write_corpus();
  ASSERT_EQ(prepare(kSmall).code, 0);
  const Output info = prepare("info");
  EXPECT_EQ(info.code, 0) << info.err;
  for (const std::string part : {"train ", "val ", "test ", "longest tokens", "quick",
                                 "On this machine's CPU a training makes about ", "5 min 00 s"}) {
    if (part.starts_with("On") && has_nvidia_device()) break;
    EXPECT_NE(info.out.find(part), std::string::npos) << info.out;
  }
}

TEST_F(PrepareTest, InfoReadsNoRunOfAgent) {
  write_corpus();
  ASSERT_EQ(prepare(kSmall).code, 0);
  const fs::path journal = data() / "runs" / "mine" / "journal.jsonl";
  fs::create_directories(journal.parent_path());
  const nlohmann::json start = {{"event", "start"},
                                {"task", sha256_of_file(data() / "corpus" / "task.json")}};
  write_file(journal, start.dump() + "\n{\"event\":\"measured\",\"tokens_per_second\":7}\n");
  const Output info = prepare("info --task corpus");
  EXPECT_EQ(info.code, 0) << info.err;
  EXPECT_EQ(info.out.find("mine"), std::string::npos) << info.out;
}

TEST_F(PrepareTest, TextOfEveryFormIsReadAndBytesThatAreNotUtf8AreCounted) {
  write_corpus();
  std::string lines;
  for (int i = 0; i < 50; ++i) lines += "{\"text\": \"line " + std::to_string(i) + "\"}\n";
  write_file(dir_ / "corpus" / "lines.jsonl", lines);
  write_file(dir_ / "corpus" / "latin.txt", "caf\xe9 au lait, s\xe3o jo\xe3o");
  ASSERT_EQ(std::system(("gzip -k " + (dir_ / "corpus" / "0.txt").string() + " && rm " +
                         (dir_ / "corpus" / "0.txt").string())
                            .c_str()),
            0);
  const Output result = prepare(kSmall);
  ASSERT_EQ(result.code, 0) << result.err;
  const nlohmann::json json = task_json();
  EXPECT_EQ(json["train"]["documents"].get<int64_t>() + json["val"]["documents"].get<int64_t>() +
                json["test"]["documents"].get<int64_t>(),
            40 + 50 + 1);
  EXPECT_EQ(json["invalid_utf8_bytes"], 3);
}

TEST_F(PrepareTest, StdinIsASourceWithDocumentsBySeparator) {
  std::string input;
  for (int i = 0; i < 60; ++i) {
    input += "story number " + std::to_string(i * i) + " begins, goes on and ends<|end|>";
  }
  const std::string small = "--vocab 280 --seq-len 16 --eval-tokens 32 ";
  const Output result =
      prepare("--source - --task piped --doc-separator '<|end|>' " + small, input);
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_NE(result.out.find("60 documents"), std::string::npos) << result.out;
  expect_refusal("--source - " + small, {"give a task from stdin a name with --task"}, 2);
}

TEST_F(PrepareTest, APipeGivesTheTokensOfAFile) {
  std::string text;
  for (int i = 0; i < 20'000; ++i) text += "line " + std::to_string(i * 7919) + " of a book\n";
  write_file(dir_ / "book.txt", text);
  const std::string options = " --vocab 300 --seq-len 32 --eval-tokens 320 --task ";
  ASSERT_EQ(prepare("--source book.txt" + options + "file").code, 0);
  ASSERT_EQ(prepare("--source -" + options + "redirected", text).code, 0);
  const Output piped = prepare_under("cat book.txt | ", "--source -" + options + "piped");
  ASSERT_EQ(piped.code, 0) << piped.err;
  for (const std::string file :
       {"tokenizer.tiktoken", "train/00000.bin", "heldout/val.bin", "heldout/test.bin"}) {
    const std::string expected = read_file(data() / "file" / file);
    EXPECT_TRUE(read_file(data() / "redirected" / file) == expected) << file;
    EXPECT_TRUE(read_file(data() / "piped" / file) == expected) << file;
  }
  EXPECT_FALSE(fs::exists(data() / "piped" / "documents"));
}

TEST_F(PrepareTest, WhatIsSkippedConvertedAndLeftOutIsTold) {
  write_corpus();
  std::string lines = "{\"text\": \"never clo\n";
  for (int i = 0; i < 1500; ++i) lines += "{\"text\": \"line " + std::to_string(i) + "\"}\n";
  write_file(dir_ / "corpus" / "lines.jsonl", lines);
  write_file(dir_ / "corpus" / "wide.txt", std::string("\xff\xfe"
                                                       "a\0b\0",
                                                       6));
  write_file(dir_ / "corpus" / "picture.png", "p");
  const Output result = prepare(kSmall);
  ASSERT_EQ(result.code, 0) << result.err;
  for (const std::string part : {"left out of folders: 1 .png\n", "converted from UTF-16: 1 (",
                                 "lines skipped: 1 of 1501 (", "lines.jsonl:1 is no JSON"}) {
    EXPECT_NE(result.out.find(part), std::string::npos) << "no " << part << " in " << result.out;
  }
}

TEST_F(PrepareTest, HowMuchOfValIsInTrainIsToldAndNearDuplicatesStayOutIfAsked) {
  std::mt19937 random(1);
  std::string lines;
  for (int i = 0; i < 100; ++i) {
    std::string text;
    while (text.size() < 1500) text += " word" + std::to_string(random() % 1000);
    for (int copy = 0; copy < 3; ++copy) {
      lines += "{\"text\": \"Copy " + std::to_string(copy) + "." + text + "\"}\n";
    }
  }
  write_file(dir_ / "corpus" / "near.jsonl", lines);
  const std::string options = "--source corpus --vocab 300 --seq-len 128 --eval-tokens 1280 ";
  const Output exact = prepare(options);
  ASSERT_EQ(exact.code, 0) << exact.err;
  EXPECT_GT(task_json()["val_in_train"].get<double>(), 0.5);
  EXPECT_NE(exact.out.find("also occur in train; --dedup near"), std::string::npos) << exact.out;
  expect_refusal(options + "--dedup near", {"--dedup exact (now near)"});
  const Output near = prepare(options + "--dedup near --force");
  ASSERT_EQ(near.code, 0) << near.err;
  EXPECT_LT(task_json()["val_in_train"].get<double>(), 0.05);
  EXPECT_NE(near.out.find("documents that resemble one of val or test"), std::string::npos);
  EXPECT_NE(prepare("info").out.find("% of val's runs of 50 tokens"), std::string::npos);
  expect_refusal("--source tinystories --dedup near", {"--dedup near is for files"}, 2);

  const std::string letter = lines.substr(lines.find('.') + 1, 1500);
  std::string letters;
  for (int i = 0; i < 100; ++i) letters += "Letter " + std::to_string(i) + "." + letter + "<|end|>";
  write_file(dir_ / "letters.txt", letters);
  expect_refusal(
      "--source letters.txt --doc-separator '<|end|>' --dedup near --vocab 300 "
      "--seq-len 64 --eval-tokens 640",
      {"do not resemble one of val or test", "give --dedup exact"});
}

TEST_F(PrepareTest, WhatNoFlagGivesStaysAsTheTaskHasIt) {
  write_corpus();
  ASSERT_EQ(prepare(std::string(kSmall) + "--time-budget 5").code, 0);
  for (const char* again : {"--source corpus", "--task corpus"})
    EXPECT_HAS(prepare(again).out, "already prepared");
  expect_refusal("--task corpus --seq-len 64", {"--seq-len 32 (now 64)"});
  expect_refusal("--task corpus --force", {"was made of", "--source"});
  ASSERT_EQ(prepare("--source corpus --seq-len 64 --force").code, 0);
  EXPECT_EQ(task_json()["vocab_size"], 300);
  EXPECT_EQ(task_json()["time_budget"], 5);
  EXPECT_EQ(task_json()["seq_len"], 64);
}

TEST_F(PrepareTest, HowTheTextOfOneSourceIsReadSaysNothingOfAnother) {
  write_corpus();
  std::string lines;
  for (int i = 0; i < 2000; ++i)
    lines += "{\"raw\": {\"text\": \"line " + std::to_string(i) + " of some other text\"}}\n";
  write_file(dir_ / "nested.jsonl", lines);
  const Output first = prepare(
      "--source nested.jsonl --task t --vocab 300 --seq-len 32 --eval-tokens 320 "
      "--column raw.text");
  ASSERT_EQ(first.code, 0) << first.err;
  const Output again = prepare("--source corpus --task t --force");
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(task_json("t")["column"], "text");
  EXPECT_EQ(task_json("t")["vocab_size"], 300);
}

TEST_F(PrepareTest, AnotherBudgetIsATaskOfItsOwnWithTheSameFiles) {
  write_corpus();
  ASSERT_EQ(prepare(kSmall).code, 0);
  expect_refusal("--task corpus --time-budget 7",
                 {"build/prepare copy --task corpus --as NAME --time-budget 7"});
  const Output copied = prepare("copy --task corpus --as quick --time-budget 7");
  ASSERT_EQ(copied.code, 0) << copied.err;
  EXPECT_HAS(copied.out, "--task quick");
  nlohmann::json expected = task_json();
  expected["name"] = "quick";
  expected["time_budget"] = 7;
  EXPECT_EQ(task_json("quick"), expected);
  EXPECT_EQ(fs::hard_link_count(data() / "quick/heldout/val.bin"), 2u);
  EXPECT_HAS(prepare("info --task quick").out, "task quick");
  expect_refusal("copy --task corpus --as quick --time-budget 8", {"quick exists"});
  expect_refusal("copy --task corpus --as runs --time-budget 8", {"can't name a task"});
  expect_refusal("copy --task corpus --as q --time-budget 0", {"--time-budget must be"}, 2);
  expect_refusal("copy --task corpus --as q", {"--time-budget"}, 2);
  write_file(data() / "corpus/heldout/val.bin", "cut");
  expect_refusal("copy --task corpus --as q --time-budget 8", {"is damaged"});
}

TEST_F(PrepareTest, ATaskIsMadeOnceAndAnewOnlyByForce) {
  write_corpus();
  ASSERT_EQ(prepare(kSmall).code, 0);
  const auto made = fs::last_write_time(data() / "corpus" / "task.json");
  const Output again = prepare(kSmall);
  EXPECT_EQ(again.code, 0);
  EXPECT_NE(again.out.find("already prepared"), std::string::npos);
  EXPECT_EQ(fs::last_write_time(data() / "corpus" / "task.json"), made);

  const Output other = prepare("--source corpus --vocab 310 --seq-len 32 --eval-tokens 320");
  EXPECT_EQ(other.code, 1);
  EXPECT_NE(other.err.find("--vocab 300 (now 310)"), std::string::npos) << other.err;
  EXPECT_NE(other.err.find("--force"), std::string::npos);
  EXPECT_EQ(other.err.find("--seq-len"), std::string::npos);

  expect_refusal(std::string(kSmall) + "--doc-separator x", {"--doc-separator \"\" (now \"x\")"});
  expect_refusal(std::string(kSmall) + "--column body", {"--column text (now body)"});

  ASSERT_EQ(prepare("--source corpus --vocab 310 --seq-len 32 --eval-tokens 320 --force").code, 0);
  EXPECT_EQ(task_json()["vocab_size"], 310);
  EXPECT_EQ(entries(), kOneTask);
}

TEST_F(PrepareTest, LeftoversOfADeadProcessAreNoTaskAndAreRemoved) {
  write_corpus();
  fs::create_directories(data() / ".corpus.partial-4711" / "train");
  write_file(data() / ".corpus.partial-4711" / "task.json", "{}");
  EXPECT_NE(prepare("info").err.find("no task is prepared"), std::string::npos);
  ASSERT_EQ(prepare(kSmall).code, 0);
  EXPECT_EQ(entries(), kOneTask);
}

TEST_F(PrepareTest, AFolderThatIsNoTaskIsNeverReplaced) {
  write_corpus();
  fs::create_directories(data() / "corpus");
  write_file(data() / "corpus" / "thesis.txt", "mine");
  const Output result = prepare(std::string(kSmall) + "--force");
  EXPECT_EQ(result.code, 1);
  EXPECT_NE(result.err.find("is no task"), std::string::npos) << result.err;
  EXPECT_EQ(read_file(data() / "corpus" / "thesis.txt"), "mine");
}

TEST_F(PrepareTest, TwoAtOnceDoNotMixUp) {
  write_corpus();
  fs::create_directories(data());
  const FileLock lock(data() / ".corpus.lock");
  const Output result = prepare(kSmall);
  EXPECT_EQ(result.code, 1);
  EXPECT_NE(result.err.find("in use by process " + std::to_string(getpid())), std::string::npos);
  EXPECT_EQ(entries(), std::vector<std::string>{".corpus.lock"});
}

TEST_F(PrepareTest, AnInterruptLeavesNothing) {
  for (int i = 0; i < 20; ++i) {  // enough work for the signal to arrive in the middle of it
    std::string text;
    for (int j = 0; text.size() < 1'000'000; ++j) text += std::to_string(j * (i + 7919)) + "word ";
    write_file(dir_ / "corpus" / (std::to_string(i) + ".txt"), text);
  }
  const pid_t child = fork();
  if (child == 0) {
    setenv("AUTORESEARCH_DATA", data().c_str(), 1);
    execl(PREPARE_PROGRAM, "prepare", "--source", (dir_ / "corpus").c_str(), "--vocab", "1000",
          nullptr);
    _exit(127);
  }
  int status = 0;
  while (entries().size() < 2 && waitpid(child, &status, WNOHANG) == 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  ASSERT_EQ(entries().size(), 2u);
  EXPECT_EQ(entries()[1].find(".corpus.partial-"), 0u) << entries()[1];
  kill(child, SIGINT);
  waitpid(child, &status, 0);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 130);
  EXPECT_EQ(entries(), std::vector<std::string>{});
}

TEST_F(PrepareTest, CommandsThatMakeNothingEndAtASignal) {
  write_corpus();
  ASSERT_EQ(prepare(kSmall).code, 0);
  const std::string command = "sleep 2 | AUTORESEARCH_DATA=" + data().string() +
                              " timeout --preserve-status -s TERM 1 '" PREPARE_PROGRAM "' encode";
  EXPECT_EQ(WEXITSTATUS(std::system(command.c_str())), 128 + SIGTERM);
}

TEST_F(PrepareTest, ClosedStandardDescriptorsDoNotBecomeOtherFiles) {
  write_corpus();
  const Output no_input =
      run_in_shell("'" PREPARE_PROGRAM "' --source - --task piped --vocab 300 <&-", "stdout");
  EXPECT_EQ(no_input.code, 1);
  EXPECT_NE(no_input.err.find("can't read stdin: Bad file descriptor"), std::string::npos)
      << no_input.err;
  EXPECT_EQ(
      run_in_shell("( '" PREPARE_PROGRAM "' " + std::string(kSmall) + " <&- 2>&- )", "stdout").code,
      0);
  EXPECT_EQ(read_file(data() / ".corpus.lock").find_first_not_of("0123456789"), std::string::npos);
}

TEST_F(PrepareTest, OptionsOfAnotherSourceAreRefusedNotPassedOver) {
  write_corpus();
  expect_error("--source corpus --shards 3", {"--shards", "climbmix", "leave them out"}, 2);
  expect_error("--source demo --base-url http://localhost", {"--base-url", "leave them out"}, 2);
  expect_error("--source tinystories --doc-separator x", {"--doc-separator", "leave it out"}, 2);
}

TEST_F(PrepareTest, WhatTaskJsonCantHoldIsRefusedBeforeTheWork) {
  write_corpus();
  expect_error("--source corpus --doc-separator $(printf '\\377')", {"--doc-separator", "UTF-8"},
               2);
  fs::rename(dir_ / "corpus", dir_ / "corp\xff");
  expect_error("--task x --source $(printf 'corp\\377')", {"path", "not UTF-8"}, 2);
}

TEST_F(PrepareTest, BadOptionsAreRefusedInOneLine) {
  write_corpus();
  expect_error("--source corpus --vocab 259", {"--vocab 259", "260 to 65535"}, 2);
  expect_error("--source corpus --vocab 65536", {"--vocab 65536", "260 to 65535"}, 2);
  expect_error("--source corpus --time-budget 0", {"--time-budget"}, 2);
  expect_error("--source corpus --task ../x", {"can't name a task"});
  expect_error("--source demo corpus", {"can't be mixed"}, 2);
  expect_error("--source corpus --workers 33", {"--workers", "1 and 32"}, 2);
  expect_error("--source corpus --eval-tokens 0", {"--eval-tokens", "1 and 67108864"}, 2);
  expect_error("--source corpus --shard 3", {"--shard", "--help"}, 2);
}

TEST_F(PrepareTest, BadCorporaAreRefusedWithWhatToDo) {
  expect_error("--source nowhere", {"can't read nowhere", "No such file"});
  expect_error("--source corpus", {"no text, source code, .jsonl or .parquet in corpus"});
  const Output piped = prepare_under("echo x | ", "--task t --source /dev/stdin");
  EXPECT_EQ(piped.code, 1);
  EXPECT_NE(piped.err.find("neither a file nor a folder; if it is a pipe"), std::string::npos)
      << piped.err;
  write_file(dir_ / "corpus" / "blank.txt", "\n \n");
  expect_error("--source corpus", {"the corpus is empty"});
  write_file(dir_ / "corpus" / "one.txt", "just one document");
  expect_error("--source corpus", {"only 1 different document"});
  write_file(dir_ / "corpus" / "bad.jsonl", "{\"body\": 1}\n");
  expect_error("--source corpus", {"bad.jsonl:1", "\"text\""});
  expect_error("--source " + std::string(300, 'x'), {"File name too long; check the path"});
  write_file(dir_ / "corpus" / "a\nb\x1b[31m.jsonl", "{}\n");
  expect_error("--source corpus", {"a b.jsonl:1"});
}

TEST_F(PrepareTest, ALimitOnTheSizeOfFilesIsOneLineAndNothingIsLeft) {
  write_corpus(400);
  const Output result = prepare_under("ulimit -f 200; ", kSmall);
  EXPECT_EQ(result.code, 1);
  EXPECT_NE(result.err.find("File too large"), std::string::npos) << result.err;
  for (const auto& entry : fs::directory_iterator(data()))
    EXPECT_EQ(entry.path().string().find(".partial-"), std::string::npos);
}

TEST_F(PrepareTest, ATooSmallCorpusSaysHowMuchIsNeeded) {
  write_corpus(10);
  expect_error("--source corpus --vocab 300",
               {"too small for one validation row of 2048 tokens", "KB of text", "--seq-len"});
  expect_error("--source corpus --vocab 60000 --seq-len 32", {"too small for --vocab 60000"});
}

TEST_F(PrepareTest, ALongDocumentDoesNotHelpWhereThoseHeldOutAreShort) {
  const auto line = [](int words, int seed) {
    std::string text;
    for (int i = 0; i < words; ++i) text += "word" + std::to_string((seed + i) * 7919 % 1000) + " ";
    return "{\"text\": \"" + text + "\"}\n";
  };
  // In the order of their hashes, the long one is the last.
  write_file(dir_ / "corpus" / "a.jsonl", line(9, 1) + line(9, 2) + line(100'000, 10));
  write_file(dir_ / "corpus" / "b.jsonl", line(9, 4) + line(9, 5) + line(9, 6) + line(9, 7));
  expect_error("--source corpus --vocab 300 --seq-len 1024",
               {"so few documents", "1024", "give more documents", "--seq-len"});
}

TEST_F(PrepareTest, SourcesAreTheSameInAnyOrder) {
  write_corpus();
  write_file(dir_ / "more.txt", "one more document, of plain text");
  const std::string options = "--vocab 300 --seq-len 32 --eval-tokens 320 --task two ";
  ASSERT_EQ(prepare(options + "--source corpus more.txt").code, 0);
  EXPECT_NE(prepare(options + "--source more.txt corpus").out.find("already prepared"),
            std::string::npos);
}

TEST_F(PrepareTest, AShortPipeIsCutIntoEnoughParts) {
  std::string text;
  for (int i = 0; i < 4000; ++i) text += std::to_string(i * 7919) + "\n";
  const Output piped =
      prepare("--source - --task pipe --vocab 280 --seq-len 16 --eval-tokens 32", text);
  EXPECT_EQ(piped.code, 0) << piped.err;
  EXPECT_NE(piped.out.find("-: 9 documents"), std::string::npos);
}

TEST_F(PrepareTest, CommandsWithoutATaskNameTheCommandThatMakesOne) {
  expect_error("info", {"build/prepare --source demo"});
  expect_error("encode --task books", {"--task books --source PATH"});
}

TEST_F(PrepareTest, ADamagedTaskIsNotedNotUsed) {
  write_corpus();
  ASSERT_EQ(prepare(kSmall).code, 0);
  fs::resize_file(data() / "corpus" / "train" / "00000.bin", 100);
  const Output info = prepare("info");
  EXPECT_EQ(info.code, 1);
  EXPECT_NE(info.err.find("damaged"), std::string::npos) << info.err;
  EXPECT_NE(info.err.find("--force"), std::string::npos) << info.err;
}

TEST_F(PrepareTest, ATaskCutShortIsNotCalledPrepared) {
  write_corpus();
  for (const std::string file :
       {"train/00000.bin", "heldout/val.bin", "heldout/test.bin", "tokenizer.tiktoken"}) {
    ASSERT_EQ(prepare(std::string(kSmall) + "--force").code, 0);
    ASSERT_EQ(prepare(kSmall).code, 0);
    fs::resize_file(data() / "corpus" / file, 100);
    const Output again = prepare(kSmall);
    EXPECT_EQ(again.code, 1) << file;
    EXPECT_NE(again.err.find("damaged"), std::string::npos) << again.err;
    EXPECT_NE(again.err.find("--force"), std::string::npos) << again.err;
  }
}

TEST_F(PrepareTest, AMissingTokenizerSaysWhatToType) {
  write_corpus();
  ASSERT_EQ(prepare(kSmall).code, 0);
  fs::remove(data() / "corpus" / "tokenizer.tiktoken");
  const Output encode = prepare("encode", "text");
  EXPECT_EQ(encode.code, 1);
  EXPECT_NE(encode.err.find("--force"), std::string::npos) << encode.err;
}

TEST_F(PrepareTest, ADataFolderThatCannotBeUsedIsNoticedFirst) {
  fs::create_directories(dir_ / "corpus");  // empty, which would be the next error
  write_file(dir_ / "file", "");
  for (const std::string folder : {"file", "file/below", "/proc/none"}) {
    expect_error("--source corpus --data " + folder, {"as data folder", "give --data"});
  }
}

// Small file systems of their own, which a sandbox can mount without being root.
TEST_F(PrepareTest, AFullDiskIsOneLineAndNothingIsLeft) {
  write_corpus(400);  // 1.2 MB
  const auto in_a_folder_of = [&](int megabytes) {
    const std::string size = std::to_string(megabytes << 20);
    return prepare_under(
        "bwrap --dev-bind / / --size " + size + " --tmpfs " + data().string() + " sh -c '",
        "--source corpus --vocab 260 --seq-len 32 --eval-tokens 320 ",  // nearly a token a byte
        "; code=$?; ls -A " + data().string() + "; exit $code'");
  };
  if (std::system("bwrap --dev-bind / / --size 1048576 --tmpfs /mnt true 2> /dev/null") != 0) {
    GTEST_SKIP() << "bubblewrap can't work here";
  }
  fs::create_directories(data());
  const Output before = in_a_folder_of(1);
  EXPECT_NE(before.err.find("making the task needs"), std::string::npos) << before.err;
  EXPECT_EQ(before.out, "");
  EXPECT_EQ(before.code, 1);
  const Output within = in_a_folder_of(2);
  EXPECT_EQ(within.code, 1);
  EXPECT_NE(within.err.find("No space left on device; free some space"), std::string::npos)
      << within.err;
  EXPECT_EQ(within.out.find("corpus/train"), std::string::npos);
  EXPECT_EQ(within.out.find(".partial-"), std::string::npos) << within.out;
  EXPECT_EQ(std::count(within.err.begin(), within.err.end(), '\n'), 1) << within.err;
}

TEST_F(PrepareTest, AReadOnlyFolderIsNoticedFirst) {
  write_corpus();
  if (std::system("bwrap --dev-bind / / --size 1048576 --tmpfs /mnt true 2> /dev/null") != 0) {
    GTEST_SKIP() << "bubblewrap can't work here";
  }
  fs::create_directories(data());
  const Output result = prepare_under(
      "bwrap --dev-bind / / --ro-bind " + data().string() + " " + data().string() + " ", kSmall);
  EXPECT_EQ(result.code, 1);
  EXPECT_NE(result.err.find("as data folder (Read-only file system); give --data"),
            std::string::npos)
      << result.err;
}

TEST_F(PrepareTest, OutputThatCannotBeWrittenIsAnError) {
  write_corpus();
  ASSERT_EQ(prepare(kSmall).code, 0);
  for (const std::string command : {"info", "encode", "--help"}) {
    const Output full = prepare(command, "text", "/dev/full");
    EXPECT_EQ(full.code, 1) << command;
    EXPECT_NE(full.err.find("can't write the output: No space left"), std::string::npos)
        << full.err;
  }
}

}  // namespace
}  // namespace autoresearch
