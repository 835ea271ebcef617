"""Writes tests/data/sentencepiece: a small SentencePiece model in many scripts.

It has the character map `nmt_nfkc`, that of XLM-RoBERTa, which the models in tests/data/tiny
lack. The engine's tests compare its tokens with those of the tokenizers library.

    python tests/parity/sentencepiece_model.py
"""

from pathlib import Path

import sentencepiece

FOLDER = Path(__file__).resolve().parents[1] / "data/sentencepiece"

CORPUS = """
the coffee here is really good and the people are friendly
I waited forty minutes for a cold coffee, never again!
My phone's battery dies before lunch every single day...
best concert of my life, i cannot stop smiling 😍😍 👨‍👩‍👧 👍🏽 🇧🇷
le café est très bon et les gens sont gentils, j'ai adoré
el concierto fue increíble, ¡gracias a todos!
não gostei do filme, a história é muito lenta e o fim é péssimo
der Zug kommt schon wieder zu spät, wie immer; größer wäre schöner
questo telefono è lento, che delusione
сегодня был прекрасный день, большое спасибо всем
η ταινία ήταν υπέροχη και η μουσική πολύ καλή
القهوة هنا لذيذة جدا والناس لطفاء
انتظرت أربعين دقيقة من أجل قهوة باردة، لن أعود أبدا
यहाँ की कॉफ़ी बहुत अच्छी है और लोग मिलनसार हैं
ट्रेन आज फिर देर से आई, बहुत निराशा हुई
今日はとても楽しかった。また来たいです
这家咖啡很好喝，服务也不错！
오늘은 정말 즐거운 하루였어요 감사합니다
กาแฟที่นี่อร่อยมากและผู้คนเป็นมิตร
""".strip().splitlines()


def main():
    FOLDER.mkdir(exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 3),
        model_prefix=str(FOLDER / "sentencepiece.bpe"),
        vocab_size=600,
        hard_vocab_limit=False,
        character_coverage=0.98,
        normalization_rule_name="nmt_nfkc",
        num_threads=1,
        minloglevel=2,
    )
    (FOLDER / "sentencepiece.bpe.vocab").unlink()


if __name__ == "__main__":
    main()
