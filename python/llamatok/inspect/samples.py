"""Sentences to measure vocabularies on: everyday text in several languages and scripts, and code."""

from __future__ import annotations

SAMPLES = {
    "English": "The old bridge was closed last winter, and since then everybody walks around by the mill. "
    "Nobody complains: the way is longer, but one meets the neighbours.",
    "German": "Die alte Brücke wurde im letzten Winter gesperrt, und seither gehen alle außen herum an der "
    "Mühle vorbei. Niemand beschwert sich: Der Weg ist länger, aber man trifft die Nachbarn.",
    "French": "Le vieux pont a été fermé l'hiver dernier, et depuis tout le monde passe par le moulin. "
    "Personne ne se plaint : le chemin est plus long, mais on y croise les voisins.",
    "Spanish": "El puente viejo se cerró el invierno pasado, y desde entonces todos pasan por el molino. "
    "Nadie se queja: el camino es más largo, pero uno se encuentra con los vecinos.",
    "Polish": "Stary most zamknięto zeszłej zimy i od tego czasu wszyscy chodzą dookoła, koło młyna. "
    "Nikt nie narzeka: droga jest dłuższa, ale spotyka się sąsiadów.",
    "Turkish": "Eski köprü geçen kış kapatıldı, o zamandan beri herkes değirmenin yanından dolaşıyor. "
    "Kimse şikâyet etmiyor: yol daha uzun ama insan komşularıyla karşılaşıyor.",
    "Russian": "Старый мост закрыли прошлой зимой, и с тех пор все ходят в обход, мимо мельницы. "
    "Никто не жалуется: дорога длиннее, зато встречаешь соседей.",
    "Greek": "Η παλιά γέφυρα έκλεισε τον περασμένο χειμώνα και από τότε όλοι περνούν από τον μύλο. "
    "Κανείς δεν παραπονιέται: ο δρόμος είναι πιο μακρύς, αλλά συναντάς τους γείτονες.",
    "Arabic": "أُغلق الجسر القديم في الشتاء الماضي، ومنذ ذلك الحين يمر الجميع بجانب الطاحونة. "
    "لا أحد يشتكي: الطريق أطول، لكن المرء يلتقي بالجيران.",
    "Hindi": "पुराना पुल पिछली सर्दियों में बंद कर दिया गया, और तब से सब लोग चक्की के पास से होकर जाते हैं। "
    "कोई शिकायत नहीं करता: रास्ता लंबा है, लेकिन पड़ोसियों से मुलाकात हो जाती है।",
    "Chinese": "旧桥去年冬天关闭了，从那以后大家都绕道从磨坊旁边走。"
    "没有人抱怨：路是远了一些，但是可以遇到邻居。",
    "Japanese": "古い橋は去年の冬に閉鎖され、それ以来みんな水車小屋のそばを回って歩いている。"
    "誰も文句を言わない。道は長くなったが、近所の人に会えるからだ。",
    "Korean": "오래된 다리는 지난겨울에 폐쇄되었고, 그 뒤로 모두가 방앗간 옆으로 돌아서 다닌다. "
    "아무도 불평하지 않는다. 길은 더 멀지만 이웃을 만날 수 있기 때문이다.",
    "Emoji": "🎉 See you at 7️⃣ — bring 🍕🍕 and 🦙! 👩🏽‍💻👨‍👩‍👧 ❤️‍🔥",
    "Python": "def mean(values: list[float]) -> float:\n    if not values:\n"
    '        raise ValueError("no values")\n    return sum(values) / len(values)\n',
    "Numbers": "2026-11-21 15:04:05, 3.14159265 × 10^8, 1,234,567.89 €, 192.168.0.1, 0x1F600, "
    "+44 20 7946 0018",
}
